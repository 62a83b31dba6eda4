-- What tokens are signed with (HS256). They are secrets of this database's own: who can read it can make tokens, and
-- could do anything with it already. Deleting rows ends every token signed with them, within seconds.
CREATE TABLE dualstore.token_secrets (
  kid text COLLATE "C" PRIMARY KEY CHECK (kid ~ '^[A-Za-z0-9_-]{8,64}$'),
  secret bytea NOT NULL CHECK (octet_length(secret) >= 32),
  -- Epoch milliseconds of this server's clock, so that instances agree. The newest signs until it is to be rotated;
  -- each verifies until the last token that can have been signed with it has expired.
  created_at bigint NOT NULL DEFAULT dualstore.now_ms(),
  expires_at bigint NOT NULL
);
