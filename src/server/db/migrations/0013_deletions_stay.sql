-- What a client has deleted is not brought back by a source that still holds it.

-- Deletions are few beside what is written: whether there are any behind a place of the log, and those of a document.
-- Writers wait while the log is looked through for them once.
CREATE INDEX deletions ON dualstore.changes (collection, seq) WHERE op = 'delete';
CREATE INDEX deletions_of_documents ON dualstore.changes (collection, id) WHERE op = 'delete';

-- Whether a client of dualstore, and not a migration or psql, has deleted a document behind a place of the log and no
-- earlier than a time in epoch milliseconds.
CREATE FUNCTION dualstore.deleted_by_client(of_collection text, of_id text, since_seq bigint, since bigint)
RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT EXISTS (
    SELECT FROM dualstore.changes c
    WHERE c.op = 'delete' AND c.collection = of_collection AND c.id = of_id AND c.seq > since_seq AND c.at >= since
      AND c.author NOT LIKE 'migration:%'
  )
$$;

-- Takes documents of one collection in, in the source's order, with all that is to be remembered of it. One
-- transaction: whatever is killed and when, nothing is lost or counted twice.
--
-- The newest updated_at of an id wins; among equal ones the later, unless it has given way before: so everything can
-- be read again and nothing changes. Who gives way to another document of this migration goes into the history, and so
-- does one that gives way to its own deletion by a client since the migration began.
--
-- turns        null when every id stands once; otherwise which of its id's documents each one is, from 1
-- quarantined  [{source_id, id, reason, document}]
-- following    the checkpoint is that of following
--
-- Returns what was counted, or nothing when another runner has the migration now.
--
-- Plans are made once a session, perhaps while the tables are empty, and must do for millions.
CREATE OR REPLACE FUNCTION dualstore.take_in(
  of_migration text, of_runner text, of_collection text, ids text[], items jsonb, updated_ats bigint[],
  created_ats bigint[], source_ids text[], turns integer[], quarantined jsonb, following boolean, next_checkpoint text,
  deleted_there bigint, counted_oddities jsonb
) RETURNS TABLE (created bigint, replaced bigint, unchanged bigint, merged bigint)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_nestloop = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  total bigint := coalesce(cardinality(ids), 0);
  firsts bigint := total;
  refused bigint := jsonb_array_length(quarantined);
  -- How many transactions ago the migration began: a row that is not older was written since.
  began bigint;
  started_seq bigint;
  taken text[];
  -- Not stored, because a client has deleted them.
  gone text[] := '{}';
  n_gone bigint := 0;
  n_created bigint := 0;
  n_replaced bigint := 0;
  n_unchanged bigint := 0;
  n_merged bigint := 0;
  this_turn record;
BEGIN
  SELECT pg_current_xact_id()::text::bigint - m.started_xid::text::bigint, split_part(m.started_position, '-', 2)::bigint
  INTO began, started_seq
  FROM dualstore.source_migrations m
  WHERE m.id = of_migration AND m.runner = of_runner AND m.state NOT IN ('finished', 'rolled_back') FOR SHARE;
  IF NOT FOUND THEN RETURN; END IF;

  -- As everywhere: the rows that exist in key order first, the log's lock last.
  SELECT coalesce(array_agg(l.id), '{}') INTO taken FROM (
    SELECT d.id FROM dualstore.documents d WHERE d.collection = of_collection AND d.id = ANY (ids)
    ORDER BY d.id FOR UPDATE
  ) l;
  PERFORM set_config('dualstore.origin', jsonb_build_object('author', 'migration:' || of_migration)::text, true);

  IF turns IS NOT NULL THEN
    SELECT count(*) INTO firsts FROM unnest(turns) t WHERE t = 1;
  END IF;
  IF firsts > cardinality(taken) AND EXISTS (
    SELECT FROM dualstore.changes c WHERE c.op = 'delete' AND c.collection = of_collection AND c.seq > started_seq
  ) THEN
    SELECT coalesce(array_agg(n.id), '{}') INTO gone FROM (
      SELECT a.id, max(a.updated_at) AS updated_at FROM unnest(ids, updated_ats) AS a(id, updated_at)
      WHERE NOT EXISTS (SELECT FROM unnest(taken) AS k(id) WHERE k.id = a.id)
      GROUP BY a.id
    ) n
    WHERE dualstore.deleted_by_client(of_collection, n.id, started_seq, n.updated_at);
  END IF;
  IF gone <> '{}' THEN
    firsts := firsts - cardinality(gone);
    SELECT count(*) INTO n_gone FROM unnest(ids) AS a(id) WHERE a.id = ANY (gone);
    INSERT INTO dualstore.migration_history (collection, id, digest, item, updated_at, source_id, migration)
    SELECT of_collection, a.id, dualstore.item_digest(a.item::text), a.item::text, a.updated_at, a.source_id, of_migration
    FROM ROWS FROM (unnest(ids), jsonb_array_elements(items), unnest(updated_ats), unnest(source_ids))
      AS a(id, item, updated_at, source_id)
    WHERE a.id = ANY (gone)
    ON CONFLICT DO NOTHING;
  END IF;
  IF firsts > cardinality(taken) THEN
    INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
    SELECT of_collection, a.id, a.item, a.created_at, a.updated_at
    FROM ROWS FROM (unnest(ids), jsonb_array_elements(items), unnest(created_ats), unnest(updated_ats), unnest(turns))
      AS a(id, item, created_at, updated_at, turn_of)
    WHERE coalesce(a.turn_of, 1) = 1
      AND NOT EXISTS (SELECT FROM unnest(taken || gone) AS k(id) WHERE k.id = a.id)
    ORDER BY a.id
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS n_created = ROW_COUNT;
    IF n_created < firsts - cardinality(taken) THEN
      -- Somebody was faster, and to lock that row now could end in a circle.
      RAISE EXCEPTION 'dualstore: a document appeared meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
  END IF;

  FOR turn IN 1 .. CASE WHEN turns IS NOT NULL THEN (SELECT max(t) FROM unnest(turns) t)
    WHEN taken = '{}' THEN 0 ELSE 1 END
  LOOP
    -- Those that were created above are through with their first turn.
    CONTINUE WHEN turn = 1 AND taken = '{}';
    IF turn > 1 THEN
      SELECT array_agg(a.id) INTO taken FROM unnest(ids, turns) AS a(id, turn_of)
      WHERE a.turn_of = turn AND a.id <> ALL (gone);
    END IF;
    WITH stored AS MATERIALIZED (
      SELECT d.id, d.item, d.updated_at, age(d.xmin) BETWEEN 0 AND began AS since
      FROM dualstore.documents d WHERE d.collection = of_collection AND d.id = ANY (taken)
    ), decided AS MATERIALIZED (
      SELECT a.id, a.item, a.created_at, a.updated_at, a.source_id,
        s.item::text AS stored_item, s.updated_at AS stored_updated_at, s.since,
        CASE
          WHEN s.item = a.item THEN 'same'
          WHEN a.updated_at > s.updated_at THEN 'newer'
          WHEN a.updated_at = s.updated_at AND NOT EXISTS (
            SELECT FROM dualstore.migration_history h
            WHERE h.collection = of_collection AND h.id = a.id AND h.digest = dualstore.item_digest(a.item::text)
          ) THEN 'newer'
          ELSE 'older'
        END AS verdict
      FROM ROWS FROM (unnest(ids), jsonb_array_elements(items), unnest(created_ats), unnest(updated_ats),
        unnest(source_ids), unnest(turns)) AS a(id, item, created_at, updated_at, source_id, turn_of)
      JOIN stored s ON s.id = a.id
      WHERE coalesce(a.turn_of, 1) = turn
    ), kept AS (
      INSERT INTO dualstore.migration_history (collection, id, digest, item, updated_at, source_id, migration)
      SELECT of_collection, g.id, dualstore.item_digest(g.text), g.text, g.updated_at, g.source_id, of_migration
      FROM (
        SELECT id, stored_item AS text, stored_updated_at AS updated_at, NULL AS source_id
        FROM decided WHERE verdict = 'newer'
        UNION ALL
        SELECT id, item::text, updated_at, source_id FROM decided WHERE verdict = 'older'
      ) g
      ON CONFLICT DO NOTHING
    ), written AS (
      UPDATE dualstore.documents d SET item = n.item, created_at = n.created_at, updated_at = n.updated_at
      FROM decided n
      WHERE n.verdict = 'newer' AND d.collection = of_collection AND d.id = n.id AND d.id = ANY (taken)
    )
    SELECT count(*) FILTER (WHERE verdict = 'newer' AND NOT since) AS replaced,
      count(*) FILTER (WHERE verdict = 'same') AS unchanged,
      count(*) FILTER (WHERE verdict = 'older' OR verdict = 'newer' AND since) AS merged
    INTO this_turn FROM decided;
    n_replaced := n_replaced + this_turn.replaced;
    n_unchanged := n_unchanged + this_turn.unchanged;
    n_merged := n_merged + this_turn.merged;
  END LOOP;
  n_merged := n_merged + n_gone;
  PERFORM set_config('dualstore.origin', '', true);

  IF refused > 0 THEN
    INSERT INTO dualstore.migration_quarantine AS q (collection, source_id, id, reason, document, migration)
    SELECT of_collection, r.source_id, r.id, r.reason, r.document, of_migration
    FROM jsonb_to_recordset(quarantined) AS r(source_id text, id text, reason text, document text)
    ON CONFLICT (collection, source_id) DO UPDATE
      SET id = EXCLUDED.id, reason = EXCLUDED.reason, document = EXCLUDED.document, migration = EXCLUDED.migration,
        at = EXCLUDED.at
      WHERE (q.reason, q.document, q.migration) IS DISTINCT FROM (EXCLUDED.reason, EXCLUDED.document, of_migration);
  END IF;
  -- What could not be taken before was mended in the source. A new pass begins without any.
  IF following AND total > 0 AND EXISTS (SELECT FROM dualstore.migration_quarantine q WHERE q.collection = of_collection) THEN
    DELETE FROM dualstore.migration_quarantine q
    WHERE q.collection = of_collection AND q.source_id = ANY (source_ids);
  END IF;

  UPDATE dualstore.migration_collections c SET
    read = c.read + total + refused,
    created = c.created + n_created,
    replaced = c.replaced + n_replaced,
    unchanged = c.unchanged + n_unchanged,
    merged = c.merged + n_merged,
    quarantined = c.quarantined + refused,
    deleted = c.deleted + deleted_there,
    oddities = CASE WHEN counted_oddities = '{}' THEN c.oddities ELSE (
      SELECT jsonb_object_agg(o.kind, o.number) FROM (
        SELECT e.key AS kind, sum(e.value::bigint) AS number
        FROM (SELECT * FROM jsonb_each_text(c.oddities) UNION ALL SELECT * FROM jsonb_each_text(counted_oddities)) e
        GROUP BY e.key
      ) o) END,
    checkpoint = CASE WHEN following THEN c.checkpoint ELSE next_checkpoint END,
    follow_checkpoint = CASE WHEN following THEN next_checkpoint ELSE c.follow_checkpoint END
  WHERE c.migration = of_migration AND c.collection = of_collection;
  RETURN QUERY SELECT n_created, n_replaced, n_unchanged, n_merged;
END $$;
