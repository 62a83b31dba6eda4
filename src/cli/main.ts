import { Command } from 'commander'
import { withoutSecrets } from '../server/services/key-format.js'
import { commands } from './commands.js'
import { reportError } from './report.js'
import { version } from './version.js'

/**
 * The command line as commander describes it; nothing runs before it is parsed.
 * @param words What was typed. Commands that are named in it are there as a whole; of the others only what the list of
 *   commands shows, so that no module of theirs is read.
 */
export async function buildProgram(words: readonly string[]): Promise<Command> {
  const program = new Command('dualstore')
    .description('Agent data in PostgreSQL, mirrored into MongoDB: server and tools')
    .version(version(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    // A command with commands below it and options of its own tells by their place whose they are.
    .enablePositionalOptions()
    .configureHelp({ subcommandTerm: (command) => command.name() })
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
  for (const { name, description, load } of commands) {
    const command = words.includes(name) ? await load() : new Command(name)
    program.addCommand(command.description(description))
  }
  hardened(program)
  return program
}

/** Runs one command line. The exit code is left in `process.exitCode`: what is still being printed gets out. */
export async function main(argv: readonly string[]): Promise<void> {
  // A reader that has seen enough (`| head`) closes the pipe; that is no failure of ours.
  process.stdout.on('error', ignoreClosedPipe)
  process.stderr.on('error', ignoreClosedPipe)
  try {
    const program = await buildProgram(argv)
    await program.parseAsync(argv)
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
