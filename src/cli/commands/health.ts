import { Command, InvalidArgumentError, Option } from 'commander'
import { DualstoreError } from '../../server/errors.js'
import type { Readiness } from '../../server/services/status.js'
import type { ServerAddress } from '../client/http.js'
import { addConnection, type ConnectionFlags, serverOf } from '../client/open.js'
import { interruptible, unlessAborted } from '../interrupt.js'
import { print } from '../output.js'
import { EXIT_FOUND } from '../report.js'
import { loadSettings } from '../settings-options.js'

type HealthFlags = ConnectionFlags & { json?: boolean; timeout: number }
/** `checks` is missing when nothing could be asked. */
type Health = { ready: boolean; reason?: string } & Partial<Pick<Readiness, 'checks'>>

export function healthCommand(): Command {
  const command = new Command('health')
    .helpOption('-h, --help', 'print this help')
    .option('--json', 'print one JSON document')
    .addOption(
      new Option('--timeout <seconds>', 'how long a server may take to answer')
        .default(5)
        .argParser(parseSeconds),
    )
    .addHelpText(
      'after',
      `
Exits with 0 when ready and with 1 when not. A mirror that is down or behind is told, but leaves a server ready:
writes go on without it.

Examples:
  dualstore health
  dualstore health --url http://127.0.0.1:3000 --json
  dualstore health --url https://host --key-file /run/secrets/dualstore || alert`,
    )
    .action(async (flags: HealthFlags) => {
      const server = await serverOf(flags)
      const health = await interruptible((signal) =>
        server === undefined ? local(flags, signal) : unlessAborted(signal, remote(server, flags.timeout)),
      )
      if (!health.ready) process.exitCode = EXIT_FOUND
      await print({ json: health, text: describe(health) }, flags)
    })
  return addConnection(command, ['databaseUrl', 'mongodbUri', 'dataDir', 'logLevel'])
}

async function local(flags: HealthFlags, signal: AbortSignal): Promise<Health> {
  const loaded = await loadSettings(flags)
  const [{ openContext }, { createCommandLog }] = await Promise.all([
    import('../../server/context.js'),
    import('../log.js'),
  ])
  const log = await createCommandLog(loaded)
  try {
    const context = await openContext(loaded.config, log, { migrate: 'embedded' })
    try {
      return await unlessAborted(signal, context.status.survey())
    } finally {
      await context.close()
    }
  } catch (error) {
    return failed(error)
  }
}

async function remote(server: ServerAddress, timeoutSeconds: number): Promise<Health> {
  const { refusal, send } = await import('../client/http.js')
  const signal = AbortSignal.timeout(timeoutSeconds * 1000)
  try {
    const response = await send(server, '/health/ready', { signal })
    // 503 with a body is an answer, not a failure to ask.
    if (response.status === 200 || response.status === 503) {
      const body: unknown = await response.json().catch(() => undefined)
      if (isReadiness(body)) return body
      return { ready: false, reason: `${server.url} does not answer as dualstore does` }
    }
    throw await refusal(response)
  } catch (error) {
    if (signal.aborted) {
      return { ready: false, reason: `${server.url} did not answer within ${timeoutSeconds} s` }
    }
    return failed(error)
  }
}

/** Not being able to open or reach the stores is what a health check is for; a wrong command line is not. */
function failed(error: unknown): Health {
  if (!(error instanceof DualstoreError) || error.code === 'INVALID_CONFIG') throw error
  return { ready: false, reason: error.message }
}

function describe({ ready, reason, checks }: Health): (string | { head: string[]; rows: unknown[][] })[] {
  const verdict = ready ? 'ready' : `not ready${reason === undefined ? '' : `: ${reason}`}`
  if (checks === undefined) return [verdict]
  const { postgres, mirror } = checks
  const lag = mirror.lag === undefined || mirror.kind === 'none' ? '' : `${mirror.lag} changes behind`
  return [
    verdict,
    {
      head: ['STORE', 'STATE', 'DETAIL'],
      rows: [
        ['postgres', stateOf(postgres.ok), postgres.reason ?? ''],
        [`mirror (${mirror.kind})`, stateOf(mirror.ok), [mirror.reason, lag].filter(Boolean).join('; ')],
      ],
    },
  ]
}

function stateOf(ok: boolean): string {
  return ok ? 'ok' : 'failing'
}

function isReadiness(body: unknown): body is Readiness {
  return typeof (body as Partial<Readiness> | undefined)?.ready === 'boolean'
}

function parseSeconds(text: string): number {
  const seconds = Number(text)
  if (seconds > 0 && seconds <= 600) return seconds
  throw new InvalidArgumentError('It must be a number of seconds from 0 to 600.')
}
