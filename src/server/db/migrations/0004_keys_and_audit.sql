-- Keys that callers prove themselves with, and the audit of what was done to keys and collections.

-- A key is dsk_<id>_<secret>. Of the secret only its sha256 is kept: it has 256 random bits, so that nobody can try
-- them all, and a slow hash with a salt, which protects what people choose, would protect nothing here and cost every
-- request.
CREATE TABLE dualstore.api_keys (
  id text COLLATE "C" PRIMARY KEY,
  name text NOT NULL,
  hash bytea NOT NULL CHECK (octet_length(hash) = 32),
  -- The secret before the last rotation, good until then.
  previous_hash bytea CHECK (octet_length(previous_hash) = 32),
  previous_expires_at timestamptz,
  role text NOT NULL CHECK (role IN ('reader', 'writer', 'admin')),
  -- Names of collections, or patterns in which * stands for any characters.
  read_scopes text[] NOT NULL,
  write_scopes text[] NOT NULL,
  -- A filter in the language of lists, as it was given; null: every document.
  row_filter jsonb,
  expires_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  -- The principal that made it, as in the audit.
  created_by text NOT NULL,
  -- Written lazily, a minute late at most.
  last_used_at timestamptz,
  revoked_at timestamptz,
  CHECK ((previous_hash IS NULL) = (previous_expires_at IS NULL))
);

-- Counts the changes of keys, so that an instance knows whether what it remembers still holds. A row and not a
-- sequence: it is locked until the commit, so whoever reads version n sees every change up to n.
CREATE TABLE dualstore.api_keys_version (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  version bigint NOT NULL
);
INSERT INTO dualstore.api_keys_version (version) VALUES (1);

-- Sees every change, psql's too. The notification is sent inside the transaction, unlike those of the change log:
-- keys change rarely, and a revocation must not wait for anybody's timer.
CREATE FUNCTION dualstore.count_key_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE dualstore.api_keys_version SET version = version + 1;
  PERFORM pg_notify('dualstore_keys', '');
  RETURN NULL;
END $$;
CREATE TRIGGER count_key_change AFTER INSERT OR DELETE OR TRUNCATE ON dualstore.api_keys
  FOR EACH STATEMENT EXECUTE FUNCTION dualstore.count_key_change();
-- Everything but last_used_at, which changes nobody's rights.
CREATE TRIGGER count_key_update AFTER UPDATE OF id, name, hash, previous_hash, previous_expires_at, role,
  read_scopes, write_scopes, row_filter, expires_at, created_at, created_by, revoked_at ON dualstore.api_keys
  FOR EACH STATEMENT EXECUTE FUNCTION dualstore.count_key_change();

-- Who did what to keys and collections, written in the transaction that did it. Never a secret, never a document.
CREATE TABLE dualstore.audit (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- The principal: local, everyone, legacy, key:<id>, token:<issuer>:<subject>.
  actor text NOT NULL,
  -- The key that the actor stood or fell with.
  key_id text COLLATE "C",
  -- The client's address; null for the command line on its own stores.
  address text,
  action text NOT NULL,
  -- The key's id or the collection's name.
  target text COLLATE "C",
  details jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_by_time ON dualstore.audit (at, seq);
CREATE INDEX audit_by_key ON dualstore.audit (key_id, seq);
CREATE INDEX audit_by_target ON dualstore.audit (target, seq);

CREATE FUNCTION dualstore.refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'dualstore: the audit is only ever added to' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON dualstore.audit
  FOR EACH STATEMENT EXECUTE FUNCTION dualstore.refuse_audit_change();
