-- What streams need to know of a change: the document as it was before, to tell who enters and who leaves a filter.

-- Null with inserts, with deletes (whose item is the last state already), and with updates from before this migration.
ALTER TABLE dualstore.changes ADD COLUMN previous jsonb;

-- Changes up to here have been dropped by retention; every later one is in the log.
ALTER TABLE dualstore.logs ADD COLUMN floor bigint NOT NULL DEFAULT 0;

-- The newest position. STABLE, so that it belongs to the same snapshot as the rest of the statement that asks.
CREATE FUNCTION dualstore.log_head() RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT greatest((SELECT floor FROM dualstore.logs WHERE log_id = 1),
    (SELECT coalesce(max(seq), 0) FROM dualstore.changes))
$$;

-- The plan is made once a session, perhaps for a single row, and must do for a thousand: no nested loop.
CREATE OR REPLACE FUNCTION dualstore.append_updates() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM new_rows) THEN RETURN NULL; END IF;
  PERFORM dualstore.lock_log();
  INSERT INTO dualstore.changes (seq, collection, id, op, version, item, previous, at)
  SELECT nextval('dualstore.changes_seq'), n.collection, n.id, 'update', n.version, n.item, o.item, dualstore.now_ms()
  FROM new_rows n JOIN old_rows o ON o.collection = n.collection AND o.id = n.id;
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dualstore.follow_table(target regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('CREATE TRIGGER append_inserts AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dualstore.append_inserts()', target);
  EXECUTE format('CREATE TRIGGER append_updates AFTER UPDATE ON %s REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dualstore.append_updates()', target);
  EXECUTE format('CREATE TRIGGER append_deletes AFTER DELETE ON %s REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dualstore.append_deletes()', target);
  EXECUTE format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON %s
    FOR EACH STATEMENT EXECUTE FUNCTION dualstore.refuse()', target);
END $$;

DO $$
DECLARE
  target regclass;
BEGIN
  FOR target IN SELECT relid FROM pg_partition_tree('dualstore.documents') LOOP
    EXECUTE format('DROP TRIGGER append_updates ON %s', target);
    EXECUTE format('CREATE TRIGGER append_updates AFTER UPDATE ON %s REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
      FOR EACH STATEMENT EXECUTE FUNCTION dualstore.append_updates()', target);
  END LOOP;
END $$;
