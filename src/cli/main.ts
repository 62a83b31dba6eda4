import { Command } from 'commander'
import { withoutSecrets } from '../server/services/key-format.js'
import { auditCommand } from './commands/audit.js'
import { backupCommand } from './commands/backup.js'
import { collectionsCommand } from './commands/collections.js'
import { compatCheckCommand } from './commands/compat-check.js'
import { configCommand } from './commands/config.js'
import { dbCommand } from './commands/db.js'
import { doctorCommand } from './commands/doctor.js'
import { healthCommand } from './commands/health.js'
import { ingestCommand } from './commands/ingest.js'
import { jobsCommand } from './commands/jobs.js'
import { keysCommand } from './commands/keys.js'
import { migrateCommand } from './commands/migrate.js'
import { mirrorCommand } from './commands/mirror.js'
import { parkedCommand } from './commands/parked.js'
import { repairCommand } from './commands/repair.js'
import { restoreCommand } from './commands/restore.js'
import { serveCommand } from './commands/serve.js'
import { tailCommand } from './commands/tail.js'
import { typesCommand } from './commands/types.js'
import { verifyCommand } from './commands/verify.js'
import { reportError } from './report.js'
import { version } from './version.js'

// Every command module is light: what a command needs beyond its own flags is imported when it runs, so that --help
// answers at once.

/** The whole command line as commander describes it; nothing runs before it is parsed. */
export function buildProgram(): Command {
  const program = new Command('dualstore')
    .description('Agent data in PostgreSQL, mirrored into MongoDB: server and tools')
    .version(version(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    // A command with commands below it and options of its own tells by their place whose they are.
    .enablePositionalOptions()
    .addHelpText(
      'after',
      `
Examples:
  dualstore serve                                    serve on http://127.0.0.1:3000 with embedded stores
  dualstore collections list                         what the local stores hold
  dualstore collections list --url http://host:3000  the same of a running server
  dualstore health --url http://host:3000            exit 0 when it is ready, else 1

Exit codes: 0 done, 1 the check found something or the work failed, 2 wrong usage, 130 interrupted.`,
    )
  const commands = [
    serveCommand(),
    healthCommand(),
    doctorCommand(),
    configCommand(),
    dbCommand(),
    collectionsCommand(),
    mirrorCommand(),
    tailCommand(),
    typesCommand(),
    ingestCommand(),
    backupCommand(),
    restoreCommand(),
    keysCommand(),
    auditCommand(),
    migrateCommand(),
    verifyCommand(),
    repairCommand(),
    parkedCommand(),
    jobsCommand(),
    compatCheckCommand(),
  ]
  for (const command of commands) program.addCommand(command)
  hardened(program)
  return program
}

/** Runs one command line. The exit code is left in `process.exitCode`: what is still being printed gets out. */
export async function main(argv: readonly string[]): Promise<void> {
  // A reader that has seen enough (`| head`) closes the pipe; that is no failure of ours.
  process.stdout.on('error', ignoreClosedPipe)
  process.stderr.on('error', ignoreClosedPipe)
  try {
    await buildProgram().parseAsync(argv)
  } catch (error) {
    process.exitCode = reportError(error, argv)
  }
}

/** Commander's settings are not inherited by commands that are made apart from their parent. */
function hardened(command: Command): void {
  command.exitOverride().showHelpAfterError('(add --help for options and examples)')
  // What cannot be used is repeated, and may be a key in a wrong place.
  command.configureOutput({ writeErr: (text) => process.stderr.write(withoutSecrets(text)) })
  if (command.commands.length > 0) command.helpCommand(false)
  for (const child of command.commands) hardened(child)
}

function ignoreClosedPipe(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error
}
