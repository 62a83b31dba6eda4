-- Taking the documents of a legacy server over: what is under way, what was counted, and everything that was not the
-- newest of its id or could not be understood. ("dualstore.migrations" are the versions of this schema.)

CREATE TABLE dualstore.source_migrations (
  id text COLLATE "C" PRIMARY KEY,
  -- Where the documents come from; never with a user, password or token.
  source_kind text NOT NULL CHECK (source_kind IN ('mongo', 'http')),
  source_name text NOT NULL,
  source_identity text NOT NULL,
  state text NOT NULL DEFAULT 'planned'
    CHECK (state IN ('planned', 'backfilled', 'following', 'verified', 'cut_over', 'finished', 'rolled_back')),
  options jsonb NOT NULL DEFAULT '{}',
  -- How often everything was read, the present time included.
  pass integer NOT NULL DEFAULT 1,
  -- What was written before this place of the log, and by transactions before this one, was there before.
  started_position text NOT NULL,
  started_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  -- While somebody follows: {behind: documents, seconds, at}.
  lag jsonb,
  -- What the last verification found.
  verification jsonb,
  -- {code, message} of what ended the last run.
  error jsonb,
  -- Who takes documents in at this time. It fences those before it, and is told by its heartbeat to be alive.
  runner text,
  heartbeat_at timestamptz,
  created_by text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX one_unfinished_migration ON dualstore.source_migrations ((true))
  WHERE state NOT IN ('finished', 'rolled_back');

-- Counts of the present pass and where to go on, stored together with what was counted.
CREATE TABLE dualstore.migration_collections (
  migration text COLLATE "C" NOT NULL REFERENCES dualstore.source_migrations ON DELETE CASCADE,
  collection text COLLATE "C" NOT NULL,
  -- In the source, as it told at the beginning of the pass.
  documents bigint NOT NULL,
  read bigint NOT NULL DEFAULT 0,
  created bigint NOT NULL DEFAULT 0,
  replaced bigint NOT NULL DEFAULT 0,
  unchanged bigint NOT NULL DEFAULT 0,
  merged bigint NOT NULL DEFAULT 0,
  quarantined bigint NOT NULL DEFAULT 0,
  -- Told by the source to be deleted there, and not carried over.
  deleted bigint NOT NULL DEFAULT 0,
  -- {kind: number of documents}
  oddities jsonb NOT NULL DEFAULT '{}',
  -- Behind what was read; null at the beginning of a pass.
  checkpoint text,
  -- From where following misses nothing; moves on while somebody follows. Null without --follow.
  follow_checkpoint text,
  -- Everything was read in this pass.
  done boolean NOT NULL DEFAULT false,
  PRIMARY KEY (migration, collection),
  CONSTRAINT nothing_is_dropped CHECK (read = created + replaced + unchanged + merged + quarantined)
);

CREATE TABLE dualstore.migration_events (
  migration text COLLATE "C" NOT NULL REFERENCES dualstore.source_migrations ON DELETE CASCADE,
  number bigint GENERATED ALWAYS AS IDENTITY,
  at timestamptz NOT NULL DEFAULT now(),
  from_state text,
  to_state text NOT NULL,
  by text NOT NULL,
  note text,
  PRIMARY KEY (migration, number)
);

-- Documents that had to give way to another one of the same id. Kept when the migration is finished.
CREATE TABLE dualstore.migration_history (
  collection text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  -- SHA-256 of the item's text as jsonb prints it, in hexadecimal.
  digest text COLLATE "C" NOT NULL,
  item text NOT NULL,
  updated_at bigint NOT NULL,
  -- Where it stands in the source; null for one that was stored already and had to give way.
  source_id text,
  migration text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (collection, id, digest)
);

-- Documents of the source that cannot be taken.
CREATE TABLE dualstore.migration_quarantine (
  collection text COLLATE "C" NOT NULL,
  source_id text COLLATE "C" NOT NULL,
  -- The id it would have had, when that was found out.
  id text,
  reason text NOT NULL,
  -- The whole document as canonical extended JSON, in which every character can be stored.
  document text NOT NULL,
  migration text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (collection, source_id)
);

CREATE FUNCTION dualstore.item_digest(item text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT encode(sha256(convert_to(item, 'UTF8')), 'hex')
$$;

-- Takes documents of one collection in, in the source's order, with all that is to be remembered of it. One
-- transaction: whatever is killed and when, nothing is lost or counted twice.
--
-- The newest updated_at of an id wins; among equal ones the later, unless it has given way before: so everything can
-- be read again and nothing changes. Who gives way to another document of this migration goes into the history.
--
-- turns        null when every id stands once; otherwise which of its id's documents each one is, from 1
-- quarantined  [{source_id, id, reason, document}]
-- following    the checkpoint is that of following
--
-- Returns what was counted, or nothing when another runner has the migration now.
--
-- Plans are made once a session, perhaps while the tables are empty, and must do for millions.
CREATE FUNCTION dualstore.take_in(
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
  taken text[];
  n_created bigint := 0;
  n_replaced bigint := 0;
  n_unchanged bigint := 0;
  n_merged bigint := 0;
  this_turn record;
BEGIN
  SELECT pg_current_xact_id()::text::bigint - m.started_xid::text::bigint INTO began
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
  IF firsts > cardinality(taken) THEN
    INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
    SELECT of_collection, a.id, a.item, a.created_at, a.updated_at
    FROM ROWS FROM (unnest(ids), jsonb_array_elements(items), unnest(created_ats), unnest(updated_ats), unnest(turns))
      AS a(id, item, created_at, updated_at, turn_of)
    WHERE coalesce(a.turn_of, 1) = 1
      AND NOT EXISTS (SELECT FROM unnest(taken) AS k(id) WHERE k.id = a.id)
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
      SELECT array_agg(a.id) INTO taken FROM unnest(ids, turns) AS a(id, turn_of) WHERE a.turn_of = turn;
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
