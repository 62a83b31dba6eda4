-- Retention of the log: parts that can be dropped whole, and followers that say whether the log is kept for them.

-- running: the log is kept for it, within its bounds. paused: an operator stopped it; the log goes on without it.
-- lost: changes that it had not applied are gone, so it must be built anew; it stops instead of skipping them.
ALTER TABLE dualstore.followers
  ADD COLUMN state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'lost')),
  ADD COLUMN state_reason text,
  ADD COLUMN state_since timestamptz NOT NULL DEFAULT now();

-- The parts of the log in order: (from_seq, to_seq], null where there is no bound. The last one, changes_open, takes
-- whatever comes, so that no write ever fails for want of a partition.
CREATE FUNCTION dualstore.log_partitions() RETURNS TABLE (name text, from_seq bigint, to_seq bigint)
LANGUAGE sql STABLE AS $$
  SELECT c.relname::text, (b.bounds[1])::bigint - 1, (b.bounds[2])::bigint - 1
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  -- FOR VALUES FROM ('1') TO ('1001'), with MINVALUE and MAXVALUE where there is no bound.
  CROSS JOIN LATERAL (SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid),
    'FROM \((?:''(\d+)''|MINVALUE)\) TO \((?:''(\d+)''|MAXVALUE)\)') AS bounds) b
  WHERE i.inhparent = 'dualstore.changes'::regclass
  ORDER BY 2 NULLS FIRST
$$;

-- Gives the part of the log in (from_seq, to_seq] its table. Names only come from numbers.
CREATE FUNCTION dualstore.add_log_partition(from_seq bigint, to_seq bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('ALTER TABLE dualstore.changes ATTACH PARTITION dualstore.%I FOR VALUES FROM (%s) TO (%s)',
    CASE WHEN to_seq IS NULL THEN 'changes_open' ELSE 'changes_' || coalesce(from_seq, 0) + 1 END,
    coalesce((from_seq + 1)::text, 'MINVALUE'), coalesce((to_seq + 1)::text, 'MAXVALUE'));
END $$;

-- Ends the part that is being written at the newest change and goes on in an empty one. PostgreSQL looks through what
-- the part holds once, and writers wait for that long. Returns false when there is nothing in it.
CREATE FUNCTION dualstore.cut_log() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  last bigint;
  part record;
BEGIN
  -- Whoever has written a change holds a lock on the table until it is committed.
  LOCK TABLE dualstore.changes IN ACCESS EXCLUSIVE MODE;
  SELECT max(seq) INTO last FROM dualstore.changes;
  SELECT p.* INTO part FROM dualstore.log_partitions() p
  WHERE last > coalesce(p.from_seq, 0) AND (p.to_seq IS NULL OR last <= p.to_seq);
  IF part IS NULL OR last = part.to_seq THEN RETURN false; END IF;
  EXECUTE format('ALTER TABLE dualstore.changes DETACH PARTITION dualstore.%I', part.name);
  IF part.to_seq IS NULL THEN
    EXECUTE format('ALTER TABLE dualstore.%I RENAME TO %I', part.name, 'changes_' || coalesce(part.from_seq, 0) + 1);
    CREATE TABLE dualstore.changes_open (LIKE dualstore.changes INCLUDING ALL);
  ELSE
    EXECUTE format('CREATE TABLE dualstore.%I (LIKE dualstore.changes INCLUDING ALL)', 'changes_' || last + 1);
  END IF;
  PERFORM dualstore.add_log_partition(part.from_seq, last);
  PERFORM dualstore.add_log_partition(last, part.to_seq);
  RETURN true;
END $$;

-- Makes `count` parts of `size` changes in front of the open one, which must be empty: then nothing is looked through.
-- Returns false when it holds something; cut_log comes first then.
CREATE FUNCTION dualstore.extend_log(size bigint, count integer) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  start bigint;
BEGIN
  LOCK TABLE dualstore.changes IN ACCESS EXCLUSIVE MODE;
  IF EXISTS (SELECT FROM dualstore.changes_open) THEN RETURN false; END IF;
  SELECT coalesce(p.from_seq, 0) INTO start FROM dualstore.log_partitions() p WHERE p.to_seq IS NULL;
  ALTER TABLE dualstore.changes DETACH PARTITION dualstore.changes_open;
  FOR part IN 0 .. count - 1 LOOP
    EXECUTE format('CREATE TABLE dualstore.%I (LIKE dualstore.changes INCLUDING ALL)', 'changes_' || start + part * size + 1);
    PERFORM dualstore.add_log_partition(start + part * size, start + (part + 1) * size);
  END LOOP;
  PERFORM dualstore.add_log_partition(start + count * size, NULL);
  RETURN true;
END $$;

-- Drops the oldest part of the log, if it is this one, and notes where the log begins now. False when it is not.
CREATE FUNCTION dualstore.drop_log_partition(part_name text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  oldest record;
BEGIN
  LOCK TABLE dualstore.changes IN ACCESS EXCLUSIVE MODE;
  SELECT p.* INTO oldest FROM dualstore.log_partitions() p ORDER BY p.from_seq NULLS FIRST LIMIT 1;
  IF oldest.name <> part_name OR oldest.to_seq IS NULL THEN RETURN false; END IF;
  UPDATE dualstore.logs SET floor = greatest(floor, oldest.to_seq) WHERE log_id = 1;
  EXECUTE format('DROP TABLE dualstore.%I', part_name);
  RETURN true;
END $$;

-- The newest position, looked for where it almost always is, so that the parts of the log that are old, or prepared,
-- are not opened for it. Numbers that were drawn and rolled back leave gaps; behind a large one everything is looked at.
CREATE OR REPLACE FUNCTION dualstore.log_head() RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
  drawn bigint;
  head bigint;
BEGIN
  SELECT last_value INTO drawn FROM dualstore.changes_seq;
  SELECT max(seq) INTO head FROM dualstore.changes WHERE seq > drawn - 1000 AND seq <= drawn;
  IF head IS NULL THEN SELECT max(seq) INTO head FROM dualstore.changes; END IF;
  RETURN greatest((SELECT floor FROM dualstore.logs WHERE log_id = 1), coalesce(head, 0));
END $$;

-- What there is becomes the first part. It is not copied; PostgreSQL looks through it once.
DO $$
BEGIN
  LOCK TABLE dualstore.changes IN ACCESS EXCLUSIVE MODE;
  ALTER TABLE dualstore.changes DETACH PARTITION dualstore.changes_1;
  ALTER TABLE dualstore.changes_1 RENAME TO changes_open;
  PERFORM dualstore.add_log_partition(NULL, NULL);
  PERFORM dualstore.cut_log();
END $$;
