-- The one statement through which the program writes documents: many at once, of mixed kinds, each with an outcome
-- of its own. A document and an idempotency key must stand in a call at most once (the gatherer sees to it), so that
-- the answer can name rows by collection and id.
--
-- Two calls never wait for each other in a circle: each takes its keys first, then the rows that exist in key order,
-- and the log's lock last, with its first change. What it touches afterwards it holds already.
--
-- modes:    create   insert, unless the id is taken
--           put      insert, or replace and keep created_at
--           load     insert, or replace together with created_at (import and migration)
--           replace  replace what exists, if_version permitting
--           delete   delete what exists, if_version permitting
-- outcomes: created, replaced, deleted; replayed (item: what the key was answered before), key_reused;
--           and, always last, one row 'head' without a document: the log position of this call, null when it wrote
--           nothing. A document without a row was left alone: taken, missing, or of another version.
CREATE FUNCTION dualstore.write_documents(
  modes text[], collections text[], ids text[], items jsonb, if_versions bigint[], created_ats bigint[],
  updated_ats bigint[], keys text[], fingerprints text[]
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
  IF modes && '{replace,delete}' OR (SELECT count(DISTINCT m) > 1 FROM unnest(modes) m) THEN
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
      RETURNING d.collection, d.id, 'replaced', d.version, d.item::text, NULL::bigint;
    GET DIAGNOSTICS changed = ROW_COUNT;
    wrote := wrote + changed;
  END IF;

  IF 'delete' = ANY (modes) THEN
    RETURN QUERY
      DELETE FROM dualstore.documents d
      USING dualstore.write_input('delete', modes, collections, ids, items, if_versions, created_ats, updated_ats) i
      WHERE d.collection = i.collection AND d.id = i.id AND (i.if_version IS NULL OR d.version = i.if_version)
      RETURNING d.collection, d.id, 'deleted', d.version, NULL::text, NULL::bigint;
    GET DIAGNOSTICS changed = ROW_COUNT;
    wrote := wrote + changed;
  END IF;

  -- Whatever changed a row holds the log's lock until it commits, so the last number drawn is this call's own.
  IF wrote > 0 THEN
    SELECT s.last_value INTO head FROM dualstore.changes_seq s;
  END IF;
  RETURN QUERY SELECT NULL::text, NULL::text, 'head', NULL::bigint, NULL::text, head;
END $$;

-- The rows of one mode, zipped from the arrays of write_documents, each with its place in the call.
CREATE FUNCTION dualstore.write_input(
  wanted text, modes text[], collections text[], ids text[], items jsonb, if_versions bigint[],
  created_ats bigint[], updated_ats bigint[]
) RETURNS TABLE (
  place bigint, collection text, id text, item jsonb, if_version bigint, created_at bigint, updated_at bigint
)
LANGUAGE sql STABLE AS $$
  SELECT i.place, i.collection, i.id, i.item, i.if_version, i.created_at, i.updated_at
  FROM ROWS FROM (unnest(modes), unnest(collections), unnest(ids), jsonb_array_elements(items),
    unnest(if_versions), unnest(created_ats), unnest(updated_ats))
    WITH ORDINALITY AS i(mode, collection, id, item, if_version, created_at, updated_at, place)
  WHERE i.mode = wanted
$$;
