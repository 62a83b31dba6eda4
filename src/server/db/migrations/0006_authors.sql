-- Who changed a document and from where, in the change log; and writes that hold only for the very state that was
-- looked at, which row filters of keys need.

-- Null for what was written past the program, through psql for instance, and before this migration.
ALTER TABLE dualstore.changes ADD COLUMN author text, ADD COLUMN address text;

-- Triggers see the rows of a statement and nothing else, and one statement holds the writes of several authors. So the
-- transaction says who they are: dualstore.origin is empty, or JSON with the author of all its rows,
--   {"author": "key:k1", "address": "192.0.2.1"}
-- or with each document's own
--   {"each": {"<collection>": {"<id>": ["key:k1", "192.0.2.1"]}}}
-- It is set for the transaction only, as PgBouncer's transaction mode needs it, and emptied by whoever has set it.
CREATE FUNCTION dualstore.origin() RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT nullif(current_setting('dualstore.origin', true), '')::jsonb
$$;

-- The author (0) or address (1) of one document's change.
CREATE FUNCTION dualstore.told_by(origin jsonb, collection text, id text, part integer) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN origin IS NULL THEN NULL
    WHEN origin ? 'each' THEN origin #>> ARRAY['each', collection, id, part::text]
    WHEN part = 0 THEN origin ->> 'author'
    ELSE origin ->> 'address'
  END
$$;

CREATE OR REPLACE FUNCTION dualstore.append_inserts() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  origin jsonb := dualstore.origin();
BEGIN
  IF NOT EXISTS (SELECT FROM new_rows) THEN RETURN NULL; END IF;
  PERFORM dualstore.lock_log();
  INSERT INTO dualstore.changes (seq, collection, id, op, version, item, at, author, address)
  SELECT nextval('dualstore.changes_seq'), collection, id, 'insert', version, item, dualstore.now_ms(),
    dualstore.told_by(origin, collection, id, 0), dualstore.told_by(origin, collection, id, 1)
  FROM new_rows;
  RETURN NULL;
END $$;

-- As in migration 0003: the plan is made once a session and must do for a thousand rows.
CREATE OR REPLACE FUNCTION dualstore.append_updates() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off AS $$
DECLARE
  origin jsonb := dualstore.origin();
BEGIN
  IF NOT EXISTS (SELECT FROM new_rows) THEN RETURN NULL; END IF;
  PERFORM dualstore.lock_log();
  INSERT INTO dualstore.changes (seq, collection, id, op, version, item, previous, at, author, address)
  SELECT nextval('dualstore.changes_seq'), n.collection, n.id, 'update', n.version, n.item, o.item, dualstore.now_ms(),
    dualstore.told_by(origin, n.collection, n.id, 0), dualstore.told_by(origin, n.collection, n.id, 1)
  FROM new_rows n JOIN old_rows o ON o.collection = n.collection AND o.id = n.id;
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dualstore.append_deletes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  origin jsonb := dualstore.origin();
BEGIN
  IF NOT EXISTS (SELECT FROM old_rows) THEN RETURN NULL; END IF;
  PERFORM dualstore.lock_log();
  INSERT INTO dualstore.changes (seq, collection, id, op, version, item, at, author, address)
  SELECT nextval('dualstore.changes_seq'), collection, id, 'delete', version, item, dualstore.now_ms(),
    dualstore.told_by(origin, collection, id, 0), dualstore.told_by(origin, collection, id, 1)
  FROM old_rows;
  RETURN NULL;
END $$;

-- Like that of migration 0002, with two things more. `origin` says whose writes these are. `if_marks` lets replace,
-- reload and delete touch a row only in the state that was looked at: the mark is the id of the transaction that made
-- it. A version would not do, because it begins at 1 again when a document is deleted and made anew.
-- modes:    reload   replace what exists together with created_at, if_version and if_mark permitting
-- The new parameters have defaults: while instances are being replaced, older ones go on calling it as they know it.
DROP FUNCTION dualstore.write_documents(
  text[], text[], text[], jsonb, bigint[], bigint[], bigint[], text[], text[]
);
CREATE FUNCTION dualstore.write_documents(
  modes text[], collections text[], ids text[], items jsonb, if_versions bigint[], created_ats bigint[],
  updated_ats bigint[], keys text[], fingerprints text[], if_marks text[] DEFAULT NULL, origin text DEFAULT NULL
) RETURNS TABLE (collection text, id text, outcome text, version bigint, item text, seq bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  wrote bigint := 0;
  changed bigint;
  -- Places in the call of creates that their idempotency key has answered.
  answered bigint[] := '{}';
  keyed boolean := EXISTS (SELECT FROM unnest(keys) k WHERE k IS NOT NULL);
  head bigint;
BEGIN
  -- For the triggers, which see rows and nothing of who wrote them; gone with the transaction at the latest.
  PERFORM set_config('dualstore.origin', coalesce(origin, ''), true);

  IF keyed THEN
    WITH asked AS (
      SELECT a.collection, a.key, a.fingerprint, a.item, a.place
      FROM ROWS FROM (unnest(collections), unnest(keys), unnest(fingerprints), jsonb_array_elements(items))
        WITH ORDINALITY AS a(collection, key, fingerprint, item, place)
      WHERE a.key IS NOT NULL
    ), taken AS (
      INSERT INTO dualstore.idempotency (collection, key, fingerprint, item)
      SELECT collection, key, fingerprint, item FROM asked ORDER BY collection, key
      ON CONFLICT DO NOTHING
      RETURNING collection, key
    )
    SELECT coalesce(array_agg(a.place), '{}') INTO answered
    FROM asked a LEFT JOIN taken t USING (collection, key) WHERE t.key IS NULL;

    RETURN QUERY
      SELECT a.collection, a.id, CASE WHEN t.fingerprint = a.fingerprint THEN 'replayed' ELSE 'key_reused' END,
        1::bigint, CASE WHEN t.fingerprint = a.fingerprint THEN t.item::text END, NULL::bigint
      FROM ROWS FROM (unnest(collections), unnest(ids), unnest(keys), unnest(fingerprints))
        WITH ORDINALITY AS a(collection, id, key, fingerprint, place)
      JOIN dualstore.idempotency t USING (collection, key)
      WHERE a.place = ANY (answered);
  END IF;

  -- A statement of its own: the statements behind it see what others committed while this one waited, so that
  -- replace and delete decide by the version that stands. Calls that only insert lock as they go, in key order too.
  IF modes && '{replace,reload,delete}' OR (SELECT count(DISTINCT m) > 1 FROM unnest(modes) m) THEN
    PERFORM FROM ROWS FROM (unnest(modes), unnest(collections), unnest(ids)) AS a(mode, collection, id)
    JOIN dualstore.documents d USING (collection, id)
    WHERE a.mode <> 'create'
    ORDER BY d.collection, d.id FOR UPDATE OF d;
  END IF;

  IF 'create' = ANY (modes) THEN
    RETURN QUERY
      INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
      SELECT collection, id, item, created_at, updated_at
      FROM dualstore.write_input('create', modes, collections, ids, items, if_versions, created_ats, updated_ats)
      WHERE place <> ALL (answered)
      ORDER BY collection, id
      ON CONFLICT DO NOTHING
      RETURNING collection, id, 'created', version, CASE WHEN keyed THEN item::text END, NULL::bigint;
    GET DIAGNOSTICS changed = ROW_COUNT;
    wrote := wrote + changed;

    IF keyed THEN
      -- A key whose create did not happen, because its id was taken, may be used again.
      DELETE FROM dualstore.idempotency t
      USING ROWS FROM (unnest(collections), unnest(ids), unnest(keys))
        WITH ORDINALITY AS a(collection, id, key, place)
      WHERE t.collection = a.collection AND t.key = a.key AND a.place <> ALL (answered)
        AND NOT EXISTS (
          SELECT FROM dualstore.documents d
          WHERE d.collection = a.collection AND d.id = a.id AND d.version = 1 AND d.item = t.item
        );
    END IF;
  END IF;

  IF 'put' = ANY (modes) THEN
    RETURN QUERY
      INSERT INTO dualstore.documents AS d (collection, id, item, created_at, updated_at)
      SELECT collection, id, item, created_at, updated_at
      FROM dualstore.write_input('put', modes, collections, ids, items, if_versions, created_ats, updated_ats)
      ORDER BY collection, id
      ON CONFLICT (collection, id) DO UPDATE SET
        item = EXCLUDED.item || jsonb_build_object('created_at', d.item -> 'created_at'),
        updated_at = EXCLUDED.updated_at
      RETURNING d.collection, d.id, CASE d.version WHEN 1 THEN 'created' ELSE 'replaced' END, d.version,
        d.item::text, NULL::bigint;
    GET DIAGNOSTICS changed = ROW_COUNT;
    wrote := wrote + changed;
  END IF;

  IF 'load' = ANY (modes) THEN
    RETURN QUERY
      INSERT INTO dualstore.documents AS d (collection, id, item, created_at, updated_at)
      SELECT collection, id, item, created_at, updated_at
      FROM dualstore.write_input('load', modes, collections, ids, items, if_versions, created_ats, updated_ats)
      ORDER BY collection, id
      ON CONFLICT (collection, id) DO UPDATE SET
        item = EXCLUDED.item, created_at = EXCLUDED.created_at, updated_at = EXCLUDED.updated_at
      RETURNING d.collection, d.id, CASE d.version WHEN 1 THEN 'created' ELSE 'replaced' END, d.version,
        NULL::text, NULL::bigint;
    GET DIAGNOSTICS changed = ROW_COUNT;
    wrote := wrote + changed;
  END IF;

  IF 'replace' = ANY (modes) THEN
    RETURN QUERY
      UPDATE dualstore.documents d SET
        item = i.item || jsonb_build_object('created_at', d.item -> 'created_at'),
        updated_at = i.updated_at
      FROM dualstore.write_input('replace', modes, collections, ids, items, if_versions, created_ats, updated_ats) i
      WHERE d.collection = i.collection AND d.id = i.id AND (i.if_version IS NULL OR d.version = i.if_version)
        AND (if_marks IS NULL OR if_marks[i.place] IS NULL OR d.xmin::text = if_marks[i.place])
      RETURNING d.collection, d.id, 'replaced', d.version, d.item::text, NULL::bigint;
    GET DIAGNOSTICS changed = ROW_COUNT;
    wrote := wrote + changed;
  END IF;

  IF 'reload' = ANY (modes) THEN
    RETURN QUERY
      UPDATE dualstore.documents d SET
        item = i.item, created_at = i.created_at, updated_at = i.updated_at
      FROM dualstore.write_input('reload', modes, collections, ids, items, if_versions, created_ats, updated_ats) i
      WHERE d.collection = i.collection AND d.id = i.id AND (i.if_version IS NULL OR d.version = i.if_version)
        AND (if_marks IS NULL OR if_marks[i.place] IS NULL OR d.xmin::text = if_marks[i.place])
      RETURNING d.collection, d.id, 'replaced', d.version, NULL::text, NULL::bigint;
    GET DIAGNOSTICS changed = ROW_COUNT;
    wrote := wrote + changed;
  END IF;

  IF 'delete' = ANY (modes) THEN
    RETURN QUERY
      DELETE FROM dualstore.documents d
      USING dualstore.write_input('delete', modes, collections, ids, items, if_versions, created_ats, updated_ats) i
      WHERE d.collection = i.collection AND d.id = i.id AND (i.if_version IS NULL OR d.version = i.if_version)
        AND (if_marks IS NULL OR if_marks[i.place] IS NULL OR d.xmin::text = if_marks[i.place])
      RETURNING d.collection, d.id, 'deleted', d.version, NULL::text, NULL::bigint;
    GET DIAGNOSTICS changed = ROW_COUNT;
    wrote := wrote + changed;
  END IF;

  -- Whatever changed a row holds the log's lock until it commits, so the last number drawn is this call's own.
  IF wrote > 0 THEN
    SELECT s.last_value INTO head FROM dualstore.changes_seq s;
  END IF;
  PERFORM set_config('dualstore.origin', '', true);
  RETURN QUERY SELECT NULL::text, NULL::text, 'head', NULL::bigint, NULL::text, head;
END $$;

-- Deletes up to `most` documents of a collection, for whoever drops it; returns how many there were.
CREATE FUNCTION dualstore.delete_some(wanted text, most bigint, origin text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  gone bigint;
BEGIN
  PERFORM set_config('dualstore.origin', coalesce(origin, ''), true);
  DELETE FROM dualstore.documents d
  WHERE d.collection = wanted
    AND d.id IN (SELECT e.id FROM dualstore.documents e WHERE e.collection = wanted ORDER BY e.id LIMIT most);
  GET DIAGNOSTICS gone = ROW_COUNT;
  PERFORM set_config('dualstore.origin', '', true);
  RETURN gone;
END $$;
