import type { Command } from 'commander'

/** A command as the list of all shows it, and what brings the whole of it. */
export interface Entry {
  name: string
  description: string
  load(): Promise<Command>
}

/**
 * Every command of the program. The modules of one are read when it is named, and what it needs beyond its flags when it
 * runs: help answers at once.
 */
export const commands: readonly Entry[] = [
  {
    name: 'serve',
    description: 'Run the HTTP server, until SIGTERM or SIGINT',
    load: async () => (await import('./commands/serve.js')).serveCommand(),
  },
  {
    name: 'health',
    description: 'Check the local stores, or with --url whether a running server is ready',
    load: async () => (await import('./commands/health.js')).healthCommand(),
  },
  {
    name: 'doctor',
    description: 'Tell what is wrong with stores, followers and settings, and what mends it',
    load: async () => (await import('./commands/doctor.js')).doctorCommand(),
  },
  {
    name: 'config',
    description: 'Print the effective settings and where each comes from; secrets are masked',
    load: async () => (await import('./commands/config.js')).configCommand(),
  },
  {
    name: 'db',
    description: 'Look after the PostgreSQL schema',
    load: async () => (await import('./commands/db.js')).dbCommand(),
  },
  {
    name: 'collections',
    description: 'Look at, make and change collections; move their documents in and out',
    load: async () => (await import('./commands/collections.js')).collectionsCommand(),
  },
  {
    name: 'mirror',
    description: 'Look at the mirror, pause it, let it go on, build it anew',
    load: async () => (await import('./commands/mirror.js')).mirrorCommand(),
  },
  {
    name: 'tail',
    description: 'Print changes as they are committed, until it is interrupted',
    load: async () => (await import('./commands/tail.js')).tailCommand(),
  },
  {
    name: 'types',
    description: 'Write TypeScript types of the collections, for dualstore/client',
    load: async () => (await import('./commands/types.js')).typesCommand(),
  },
  {
    name: 'ingest',
    description: 'Follow a provider of agent data into the collections',
    load: async () => (await import('./commands/ingest.js')).ingestCommand(),
  },
  {
    name: 'backup',
    description: 'Write all collections and documents into one file, as they are at one moment',
    load: async () => (await import('./commands/backup.js')).backupCommand(),
  },
  {
    name: 'restore',
    description:
      'Put an archive of "dualstore backup" into an empty database, or in the place of what there is',
    load: async () => (await import('./commands/restore.js')).restoreCommand(),
  },
  {
    name: 'keys',
    description: 'Make, look at, rotate and revoke API keys',
    load: async () => (await import('./commands/keys.js')).keysCommand(),
  },
  {
    name: 'audit',
    description:
      'Tell who did what to keys and collections, or to documents, when and from where; the newest last',
    load: async () => (await import('./commands/audit.js')).auditCommand(),
  },
  {
    name: 'migrate-from-dualstore-http',
    description: 'Take over what a legacy dualstore-http server holds, also while it goes on writing',
    load: async () => (await import('./commands/migrate.js')).migrateCommand(),
  },
  {
    name: 'verify',
    description: 'Compare the mirror with PostgreSQL and name every document that differs; changes nothing',
    load: async () => (await import('./commands/verify.js')).verifyCommand(),
  },
  {
    name: 'repair',
    description: 'Tell what would be brought from PostgreSQL to the mirror, and with --yes bring it',
    load: async () => (await import('./commands/repair.js')).repairCommand(),
  },
  {
    name: 'parked',
    description: 'Look after documents that the mirror refused',
    load: async () => (await import('./commands/parked.js')).parkedCommand(),
  },
  {
    name: 'jobs',
    description: 'Look at verifications and repairs, and end them',
    load: async () => (await import('./commands/jobs.js')).jobsCommand(),
  },
  {
    name: 'compat-check',
    description: 'Compare what dualstore answers with what the legacy server answers, and say what breaks',
    load: async () => (await import('./commands/compat-check.js')).compatCheckCommand(),
  },
]
