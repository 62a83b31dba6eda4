-- Work that takes long, is asked for once and outlives the process that does it: verifications and repairs.

-- Exactly one instance runs the jobs of a kind, under a lease. `runner` names the run and fences every one before:
-- what it stores is conditional on it, so that an instance that was only paused changes nothing when it wakes.
CREATE TABLE dualstore.jobs (
  id text COLLATE "C" PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('verify', 'repair')),
  state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
  options jsonb NOT NULL,
  -- Where to go on after a crash, and what was counted until there; always stored together with its findings.
  progress jsonb,
  result jsonb,
  -- {code, message} of what ended it, or of what keeps it waiting while it runs.
  error jsonb,
  started_by text NOT NULL,
  cancel_requested boolean NOT NULL DEFAULT false,
  runner text,
  created_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz,
  finished_at timestamptz
);
CREATE INDEX jobs_by_age ON dualstore.jobs (kind, created_at);

-- What a job found, one row a document; bounded for each job, whose counts go on.
CREATE TABLE dualstore.findings (
  job text COLLATE "C" NOT NULL REFERENCES dualstore.jobs ON DELETE CASCADE,
  collection text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  finding jsonb NOT NULL,
  PRIMARY KEY (job, collection, id)
);

-- A parked document that is being retried: its later changes flow again, and what the retry reads afterwards holds
-- every change that was held back. A retry that is interrupted leaves the row, to be retried again.
ALTER TABLE dualstore.parked ADD COLUMN retrying boolean NOT NULL DEFAULT false;
-- No clean-up takes parked documents along: they go by being retried, skipped or repaired.
ALTER TABLE dualstore.parked DROP CONSTRAINT parked_follower_fkey;
ALTER TABLE dualstore.parked ADD FOREIGN KEY (follower) REFERENCES dualstore.followers;
