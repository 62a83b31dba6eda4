import { CommanderError } from 'commander'
import { DualstoreError } from '../server/errors.js'
import { withoutSecrets } from '../server/services/key-format.js'
import { Interrupted } from './interrupt.js'
import { printable, say } from './output.js'

export const EXIT_FOUND = 1
export const EXIT_USAGE = 2
export const EXIT_INTERRUPTED = 130

/** Says what went wrong in one line, or one for each fault, and returns the exit code. No stack unless asked for. */
export function reportError(error: unknown, argv: readonly string[]): number {
  // Commander has printed its own message, or the help or version that was asked for.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE
  if (error instanceof Interrupted) {
    say(error.message)
    return EXIT_INTERRUPTED
  }
  // How a prompt of @inquirer ends on Ctrl-C.
  if ((error as Error).name === 'ExitPromptError') return EXIT_INTERRUPTED
  if ((error as NodeJS.ErrnoException).code === 'EPIPE') return 0
  for (const line of messageOf(error).split('\n')) say(withoutSecrets(`error: ${withFlags(line)}`))
  if (wantsStack(argv)) say(withoutSecrets(String((error as Error).stack)))
  return error instanceof DualstoreError && isUsage(error) ? EXIT_USAGE : EXIT_FOUND
}

function isUsage(error: DualstoreError): boolean {
  return error.status === 400 || error.code === 'INVALID_CONFIG'
}

function messageOf(error: unknown): string {
  if (error instanceof DualstoreError) return error.message || error.error
  const { code, message } = error as NodeJS.ErrnoException & { port?: number }
  if (code === 'EADDRINUSE') {
    return `port ${(error as { port?: number }).port} is in use; choose another with --port or PORT`
  }
  if (code === 'EACCES' || code === 'EADDRNOTAVAIL') return `${message}; see --host, --port and --data-dir`
  return printable(message ?? String(error))
}

/** The services name a parameter as HTTP does; here it was given by a flag. */
function withFlags(message: string): string {
  return message
    .replace(
      /\bquery\.(filter|q|session_id|created_after|created_before|since)\b/g,
      (_, name: string) => `--${name.replaceAll('_', '-')}`,
    )
    .replace(/\bbody\.(?:scopes\.)?(rows|expires_at|read|write)\b/g, (_, name: string) => {
      return `--${name.replaceAll('_', '-')}`
    })
}

function wantsStack(argv: readonly string[]): boolean {
  const at = argv.findIndex((word) => word === '--log-level' || word.startsWith('--log-level='))
  const flag = argv[at]?.includes('=') ? argv[at].split('=')[1] : argv[at + 1]
  const level = at === -1 ? process.env.LOG_LEVEL : flag
  return level === 'debug' || level === 'trace'
}
