-- Cutting a migration from a legacy server over, and going back.

ALTER TABLE dualstore.source_migrations
  -- Whoever wants to know that everything written by now was taken in raises the question; the runner answers with the
  -- number of the last question behind which it has looked at the whole source. No two clocks are compared.
  ADD COLUMN question bigint NOT NULL DEFAULT 0,
  ADD COLUMN answered bigint NOT NULL DEFAULT 0,
  -- The mirror is the source: the legacy documents are replaced in place, and an archive keeps them.
  ADD COLUMN adopt boolean NOT NULL DEFAULT false,
  -- The log's end before clients were first asked to switch: `<epoch>-<position>`. What is behind it may be their own.
  ADD COLUMN switch_position text,
  -- Documents that had been taken in when it was cut over; those that come later are stragglers.
  ADD COLUMN taken_at_cutover bigint,
  -- A rollback is under way: nothing more is to be taken in, and the runner ends.
  ADD COLUMN rolling_back boolean NOT NULL DEFAULT false;
