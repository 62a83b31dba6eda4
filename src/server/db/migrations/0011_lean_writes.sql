-- Creating documents, which is most of what is written, in as few steps as it takes.

-- The triggers take the lock and find out whether there is anything to append in one step, look at the clock once for
-- all rows of a statement, and look up an author by document only where a statement has several (told_by).
CREATE OR REPLACE FUNCTION dualstore.append_inserts() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  origin jsonb;
  author text;
  address text;
  now_ms bigint;
BEGIN
  PERFORM dualstore.lock_log() FROM (SELECT FROM new_rows LIMIT 1) AS any_row;
  IF NOT FOUND THEN RETURN NULL; END IF;
  origin := dualstore.origin();
  now_ms := dualstore.now_ms();
  IF origin ? 'each' THEN
    INSERT INTO dualstore.changes (seq, collection, id, op, version, item, at, author, address)
    SELECT nextval('dualstore.changes_seq'), n.collection, n.id, 'insert', n.version, n.item, now_ms,
      dualstore.told_by(origin, n.collection, n.id, 0), dualstore.told_by(origin, n.collection, n.id, 1)
    FROM new_rows n;
  ELSE
    author := origin ->> 'author';
    address := origin ->> 'address';
    INSERT INTO dualstore.changes (seq, collection, id, op, version, item, at, author, address)
    SELECT nextval('dualstore.changes_seq'), n.collection, n.id, 'insert', n.version, n.item, now_ms, author, address
    FROM new_rows n;
  END IF;
  RETURN NULL;
END $$;

-- What write_documents does with documents of one collection that are all to be created, without keys: one insert.
-- It fails as a whole (unique_violation) when an id is taken; write_documents then tells which. ON CONFLICT and RETURNING
-- would cost a quarter of the time of every call, for what is rare.
-- Returns the position of the last change. Each id stands in a call at most once, and there is at least one.
CREATE FUNCTION dualstore.create_documents(
  collection text, items jsonb, created_ats bigint[], updated_ats bigint[], origin text
) RETURNS bigint LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  head bigint;
BEGIN
  PERFORM set_config('dualstore.origin', coalesce(origin, ''), true);
  INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
  SELECT collection, i.item ->> 'id', i.item, i.created_at, i.updated_at
  FROM ROWS FROM (jsonb_array_elements(items), unnest(created_ats), unnest(updated_ats))
    AS i(item, created_at, updated_at)
  -- As everybody takes rows, so that two calls never wait for each other in a circle.
  ORDER BY i.item ->> 'id' COLLATE "C";
  -- The log's lock is held since the first change, so the last number drawn is this call's own.
  SELECT s.last_value INTO head FROM dualstore.changes_seq s;
  PERFORM set_config('dualstore.origin', '', true);
  RETURN head;
END $$;
