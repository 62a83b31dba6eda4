-- What any instance can tell of a mirror, and what an operator orders: a leader reads its orders here, so that it does
-- not matter which instance was asked, and a restart changes nothing.

ALTER TABLE dualstore.followers
  -- Who ordered the present state.
  ADD COLUMN state_by text,
  -- The newest failure with its time; unlike last_error it stays when things work again.
  ADD COLUMN latest_error text,
  ADD COLUMN latest_error_at timestamptz,
  -- The heartbeat: what the leader has told, by PostgreSQL's clock. Rates are changes a second over the last minute.
  ADD COLUMN reported_at timestamptz,
  ADD COLUMN host text,
  ADD COLUMN kind text,
  ADD COLUMN applied_per_s double precision,
  ADD COLUMN written_per_s double precision,
  -- The rebuild that is under way or was the last, with how far it has come: {id, requested_by, requested_at, from,
  -- phase, collection, after, written, removed, retried, refused, total, started_at, finished_at}.
  ADD COLUMN rebuild jsonb;
