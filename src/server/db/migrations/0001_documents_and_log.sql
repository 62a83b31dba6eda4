-- Documents, the change log, and the one way to write. docs/architecture.md and docs/invariants.md explain why.

-- A log of changes. There is one today; the row, the lock key and every stored position already name it, so that
-- groups of collections can later have a log (and a primary) each without a change of protocol.
-- The epoch changes when a log is restored from a backup: positions of another epoch mean nothing.
CREATE TABLE dualstore.logs (
  log_id smallint PRIMARY KEY,
  epoch text NOT NULL DEFAULT substr(replace(gen_random_uuid()::text, '-', ''), 1, 8)
);
INSERT INTO dualstore.logs (log_id) VALUES (1);

CREATE TABLE dualstore.collections (
  name text COLLATE "C" PRIMARY KEY,
  definition jsonb NOT NULL,
  -- 'dropping' refuses writes and lets an interrupted drop be continued; 'dropped' is kept for followers that lag.
  state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'dropping', 'dropped')),
  version bigint NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);

-- The whole item is stored as it is answered, so that its text can be passed on without being parsed.
-- created_at and updated_at repeat the item's, in epoch milliseconds, for ordering and paging.
CREATE TABLE dualstore.documents (
  collection text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  version bigint NOT NULL DEFAULT 1,
  item jsonb NOT NULL,
  created_at bigint NOT NULL,
  updated_at bigint NOT NULL,
  -- Indexes share their names with tables: none may be called as a collection's partition could be.
  CONSTRAINT by_collection_and_id PRIMARY KEY (collection, id),
  CONSTRAINT documents_item_carries_id CHECK (item ->> 'id' IS NOT DISTINCT FROM id)
) PARTITION BY LIST (collection);
CREATE INDEX by_creation ON dualstore.documents (created_at, id);

-- The words that a full text search of an item looks through: those of its strings. PostgreSQL refuses a tsvector of
-- more than 1 MB, which is never more than about twice its text, and one such item would fail every search; of a
-- larger item the beginning is searched, as text.
CREATE FUNCTION dualstore.searched(item jsonb) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN octet_length(item::text) <= 400000 THEN jsonb_to_tsvector('simple', item, '["string"]')
    ELSE to_tsvector('simple', left(item::text, 100000)) END
$$;

-- Partitioned, so that retention can drop whole partitions. There is one so far, without bounds.
CREATE TABLE dualstore.changes (
  seq bigint PRIMARY KEY,
  collection text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  op text NOT NULL CHECK (op IN ('insert', 'update', 'delete')),
  version bigint NOT NULL,
  -- After an insert or update the document as it is now; with a delete the document as it last was.
  item jsonb NOT NULL,
  at bigint NOT NULL
) PARTITION BY RANGE (seq);
CREATE TABLE dualstore.changes_1 PARTITION OF dualstore.changes FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
-- The first number is 1; until it is drawn, last_value tells 0, the position in front of every change.
CREATE SEQUENCE dualstore.changes_seq AS bigint MINVALUE 0 START 0 CACHE 1 OWNED BY dualstore.changes.seq;
SELECT setval('dualstore.changes_seq', 0);

-- I1: log order is commit order. The lock is taken before the first number is drawn and held until the commit has
-- become visible, so that nobody can read position n while a lower one is still to appear.
-- 0x6475616c ("dual") is this program's class of advisory locks; the second number is the log's id.
CREATE FUNCTION dualstore.lock_log() RETURNS void LANGUAGE sql AS $$
  SELECT pg_advisory_xact_lock(1685414252, 1)
$$;

CREATE FUNCTION dualstore.now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint
$$;

-- I2: nothing bypasses the log. Statement-level triggers with transition tables see every write, psql's too.
CREATE FUNCTION dualstore.append_inserts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM new_rows) THEN RETURN NULL; END IF;
  PERFORM dualstore.lock_log();
  INSERT INTO dualstore.changes (seq, collection, id, op, version, item, at)
  SELECT nextval('dualstore.changes_seq'), collection, id, 'insert', version, item, dualstore.now_ms()
  FROM new_rows;
  RETURN NULL;
END $$;

CREATE FUNCTION dualstore.append_updates() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM new_rows) THEN RETURN NULL; END IF;
  PERFORM dualstore.lock_log();
  INSERT INTO dualstore.changes (seq, collection, id, op, version, item, at)
  SELECT nextval('dualstore.changes_seq'), collection, id, 'update', version, item, dualstore.now_ms()
  FROM new_rows;
  RETURN NULL;
END $$;

CREATE FUNCTION dualstore.append_deletes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM old_rows) THEN RETURN NULL; END IF;
  PERFORM dualstore.lock_log();
  INSERT INTO dualstore.changes (seq, collection, id, op, version, item, at)
  SELECT nextval('dualstore.changes_seq'), collection, id, 'delete', version, item, dualstore.now_ms()
  FROM old_rows;
  RETURN NULL;
END $$;

CREATE FUNCTION dualstore.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'dualstore: % on % would bypass the change log or change a document''s identity', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation', HINT = 'Delete and insert documents instead.';
END $$;

-- A document's version counts its updates whoever makes them, so that an ETag never lies.
CREATE FUNCTION dualstore.count_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.version := OLD.version + 1;
  RETURN NEW;
END $$;

-- Row triggers of a partitioned table are inherited by its partitions; statement triggers fire only for the table
-- that a statement names, so each partition gets its own set (create_partition).
CREATE TRIGGER a_keep_identity BEFORE UPDATE OF collection, id ON dualstore.documents
  FOR EACH ROW WHEN (OLD.collection IS DISTINCT FROM NEW.collection OR OLD.id IS DISTINCT FROM NEW.id)
  EXECUTE FUNCTION dualstore.refuse();
CREATE TRIGGER b_count_version BEFORE UPDATE ON dualstore.documents
  FOR EACH ROW EXECUTE FUNCTION dualstore.count_version();

CREATE FUNCTION dualstore.follow_table(target regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('CREATE TRIGGER append_inserts AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dualstore.append_inserts()', target);
  EXECUTE format('CREATE TRIGGER append_updates AFTER UPDATE ON %s REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dualstore.append_updates()', target);
  EXECUTE format('CREATE TRIGGER append_deletes AFTER DELETE ON %s REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dualstore.append_deletes()', target);
  EXECUTE format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON %s
    FOR EACH STATEMENT EXECUTE FUNCTION dualstore.refuse()', target);
END $$;
SELECT dualstore.follow_table('dualstore.documents');

-- Gives a collection its partition. Does nothing when it has one. Names are quoted by PostgreSQL itself.
CREATE FUNCTION dualstore.create_partition(collection_name text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  partition text := 'documents_' || collection_name;
  index_id oid;
BEGIN
  IF to_regclass(format('dualstore.%I', partition)) IS NOT NULL THEN RETURN; END IF;
  EXECUTE format('CREATE TABLE dualstore.%I PARTITION OF dualstore.documents FOR VALUES IN (%L)',
    partition, collection_name);
  PERFORM dualstore.follow_table(format('dualstore.%I', partition)::regclass);
  -- PostgreSQL calls them documents_notes_pkey and the like, which is the partition of a collection "notes_pkey".
  FOR index_id IN SELECT indexrelid FROM pg_index WHERE indrelid = format('dualstore.%I', partition)::regclass LOOP
    EXECUTE format('ALTER INDEX %s RENAME TO %I', index_id::regclass, 'partition_index_' || index_id);
  END LOOP;
END $$;

-- Drops a collection's partition. The caller has deleted its documents through the log before.
CREATE FUNCTION dualstore.drop_partition(collection_name text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  partition text := 'documents_' || collection_name;
  has_rows boolean;
BEGIN
  IF to_regclass(format('dualstore.%I', partition)) IS NULL THEN RETURN; END IF;
  EXECUTE format('LOCK TABLE dualstore.%I IN ACCESS EXCLUSIVE MODE', partition);
  EXECUTE format('SELECT EXISTS (SELECT FROM dualstore.%I)', partition) INTO has_rows;
  IF has_rows THEN
    RAISE EXCEPTION 'dualstore: collection % still has documents', collection_name
      USING ERRCODE = 'restrict_violation';
  END IF;
  EXECUTE format('DROP TABLE dualstore.%I', partition);
END $$;

-- A create that carried an Idempotency-Key: what it asked for (fingerprint) and what it was answered.
CREATE TABLE dualstore.idempotency (
  collection text COLLATE "C" NOT NULL,
  key text COLLATE "C" NOT NULL,
  fingerprint text NOT NULL,
  item jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (collection, key)
);
CREATE INDEX idempotency_by_age ON dualstore.idempotency (created_at);

-- Who follows the log and how far it has got; the position is stored after the effect is durable (I4).
-- One instance leads a follower by lease; term grows with each change of leader and fences the one before (I5).
CREATE TABLE dualstore.followers (
  id text PRIMARY KEY,
  log_id smallint NOT NULL DEFAULT 1 REFERENCES dualstore.logs,
  position bigint NOT NULL DEFAULT 0,
  leader text,
  term bigint NOT NULL DEFAULT 0,
  lease_until timestamptz NOT NULL DEFAULT '-infinity',
  last_error text,
  updated_at timestamptz NOT NULL DEFAULT now()
);

-- I6: a document that a follower cannot apply waits here alone, with the reason; its later changes wait behind it.
CREATE TABLE dualstore.parked (
  follower text NOT NULL REFERENCES dualstore.followers ON DELETE CASCADE,
  collection text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  seq bigint NOT NULL,
  reason text NOT NULL,
  attempts integer NOT NULL DEFAULT 1,
  parked_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (follower, collection, id)
);
