import { open, readFile } from 'node:fs/promises'
import { Command, InvalidArgumentError, Option } from 'commander'
import type { CheckOptions } from '../../migrate/compat/check.js'
import type { Side } from '../../migrate/compat/exchange.js'
import type { Finding, Report } from '../../migrate/compat/findings.js'
import { DualstoreError, invalid } from '../../server/errors.js'
import { checkedUrl } from '../client/open.js'
import { fileTarget } from '../file-target.js'
import { interruptible } from '../interrupt.js'
import { splitLines } from '../lines.js'
import { counted, print, printable, say } from '../output.js'
import { EXIT_FOUND, EXIT_INTERRUPTED } from '../report.js'

interface CompatFlags {
  target: string
  legacy?: string
  variant: CheckOptions['variant']
  key?: string
  keyFile?: string
  token?: string
  tokenFile?: string
  writeTests?: boolean
  writeLegacy?: boolean
  heartbeat?: number
  replay?: string
  shadow?: { host: string; port: number }
  json?: boolean
  html?: string
  yes?: boolean
  verbose?: boolean
}

/** What each way of checking is given. */
type Common = Pick<CheckOptions, 'target' | 'variant' | 'keyOnTargetOnly' | 'signal'> & {
  legacy: Side | undefined
  /** The target has a key of its own. */
  ownKey: boolean
}

export function compatCheckCommand(): Command {
  return new Command('compat-check')
    .helpOption('-h, --help', 'print this help')
    .requiredOption('--target <url>', 'the dualstore server')
    .option('--legacy <url>', 'the legacy server; the recorded contract stands for it when it is left out')
    .addOption(
      new Option(
        '--variant <name>',
        'entry point of the legacy server: a is the documented one, b the simplified',
      )
        .choices(['a', 'b', 'auto'])
        .default('auto'),
    )
    .addOption(new Option('--key <key>', 'key for the target (env: DUALSTORE_KEY)').conflicts('keyFile'))
    .option('--key-file <file>', 'file that holds it')
    .addOption(
      new Option(
        '--token <token>',
        'bearer token for the legacy server (env: DUALSTORE_LEGACY_TOKEN)',
      ).conflicts('tokenFile'),
    )
    .option('--token-file <file>', 'file that holds it')
    .option('--write-tests', 'also create documents on the target, and delete them again')
    .option('--write-legacy', 'with --write-tests: create them on the legacy server too, where they stay')
    .addOption(
      new Option('--heartbeat <seconds>', 'wait so long for a heartbeat of each stream').argParser(
        parseSeconds,
      ),
    )
    .addOption(
      new Option(
        '--replay <file>',
        'send these requests (NDJSON; - reads stdin) instead of the walk',
      ).conflicts('shadow'),
    )
    .addOption(
      new Option(
        '--shadow <address>',
        'stand in front of the legacy server on this address and compare what clients read, until interrupted',
      ).argParser(parseAddress),
    )
    .option('--json', 'print one JSON document')
    .option('--html <file>', 'also write the report as a page')
    .option('--yes', 'overwrite that file when it exists')
    .option('--verbose', 'also print what is allowed and what is identical')
    .addHelpText(
      'after',
      `
Every difference is identical, additive, a documented fix (with the number of the defect, see docs/migration.md) or
breaking. Exits with 1 when anything is breaking. Reads only, unless --write-tests is given.

Examples:
  dualstore compat-check --target http://127.0.0.1:3000 --legacy http://127.0.0.1:3001
  dualstore compat-check --target http://127.0.0.1:3000 --variant b --write-tests --html report.html
  dualstore compat-check --target http://127.0.0.1:3000 --legacy http://127.0.0.1:3001 --replay requests.ndjson
  dualstore compat-check --target http://127.0.0.1:3000 --legacy http://127.0.0.1:3001 --shadow 127.0.0.1:8080`,
    )
    .action(run)
}

async function run(flags: CompatFlags): Promise<void> {
  const page = flags.html === undefined ? undefined : await fileTarget('--html', flags.html, flags.yes)
  const report = await interruptible((signal) => withSides(flags, signal, (common) => checked(flags, common)))
  const { allowedOf, HEAD, htmlOf, rowsOf } = await import('../../migrate/compat/report.js')
  if (page !== undefined) {
    const file = page.open()
    await new Promise<void>((resolve, reject) => {
      file.once('error', reject)
      file.once('close', resolve)
      file.end(htmlOf(report))
    })
    await page.complete()
  }
  const rows = rowsOf(report, flags.verbose === true)
  await print(
    {
      json: report,
      text: [
        ...(rows.length > 0 ? [{ head: HEAD, rows }] : []),
        ...(flags.verbose ? [] : [{ head: ['ALLOWED', 'REQUESTS', 'WHY'], rows: allowedOf(report) }]),
      ],
    },
    flags,
  )
  for (const note of report.notes) say(note)
  const { identical, additive, breaking, 'documented fix': fixes } = report.summary
  say(
    `${counted(identical + additive + fixes + breaking, 'request')}: ${identical} identical, ${additive} additive, ` +
      `${fixes} documented, ${breaking} breaking${report.interrupted ? '; interrupted' : ''}`,
  )
  if (!report.compatible) process.exitCode = EXIT_FOUND
  if (report.interrupted) process.exitCode = EXIT_INTERRUPTED
}

async function checked(flags: CompatFlags, common: Common): Promise<Report> {
  const { writeTests = false, writeLegacy = false } = flags
  const writes = { writeTarget: writeTests, writeLegacy: writeTests && writeLegacy }
  if (flags.replay !== undefined) {
    const { replay } = await import('../../migrate/compat/replay.js')
    return replay({ ...common, ...writes, lines: splitLines(await sourceOf(flags.replay)) })
  }
  if (flags.shadow !== undefined) return shadowed(flags, common, flags.shadow)
  const { checkCompatibility } = await import('../../migrate/compat/check.js')
  return checkCompatibility({ ...common, ...writes, heartbeatMs: (flags.heartbeat ?? 0) * 1000 })
}

/** @throws INVALID_REQUEST */
async function sourceOf(file: string): Promise<AsyncIterable<Uint8Array>> {
  if (file === '-') return process.stdin
  try {
    return (await open(file)).createReadStream()
  } catch (error) {
    throw invalid('--replay', `cannot be read: ${(error as Error).message}`)
  }
}

async function shadowed(
  flags: CompatFlags,
  { legacy, signal, ...common }: Common,
  listen: { host: string; port: number },
): Promise<Report> {
  if (legacy === undefined)
    throw invalid('--shadow', 'needs a legacy server to pass requests on to; give --legacy')
  const [{ startShadow }, { rowsOfFinding }] = await Promise.all([
    import('../../migrate/compat/shadow.js'),
    import('../../migrate/compat/report.js'),
  ])
  const onFinding = (finding: Finding) => {
    if (!flags.verbose && finding.class !== 'breaking') return
    for (const row of rowsOfFinding(finding, flags.verbose === true)) say(row.map(printable).join('\t'))
  }
  const shadow = await startShadow({ ...common, legacy, listen, onFinding }).catch((error: Error) => {
    throw 'syscall' in error ? invalid('--shadow', `cannot be listened on: ${error.message}`) : error
  })
  say(`listens on ${shadow.url} in front of ${legacy.url}; Ctrl-C ends it and prints the report`)
  await new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true })
    if (signal.aborted) resolve()
  })
  return shadow.stop()
}

/** Opens both servers for `work`. @throws STORE_UNAVAILABLE when one is not there */
async function withSides(
  flags: CompatFlags,
  signal: AbortSignal,
  work: (common: Common) => Promise<Report>,
): Promise<Report> {
  if (flags.writeLegacy && !flags.writeTests) throw invalid('--write-legacy', 'goes with --write-tests')
  if (flags.writeLegacy && flags.legacy === undefined)
    throw invalid('--write-legacy', 'needs a legacy server to write to; give --legacy')
  const { openSide } = await import('../../migrate/compat/exchange.js')
  const key = await secretOf(flags.key, flags.keyFile, '--key-file', 'DUALSTORE_KEY')
  const token = await secretOf(flags.token, flags.tokenFile, '--token-file', 'DUALSTORE_LEGACY_TOKEN')
  const target = openSide({ url: checkedUrl(flags.target, '--target'), token: key })
  const legacy =
    flags.legacy === undefined
      ? undefined
      : openSide({ url: checkedUrl(flags.legacy, '--legacy', 'the token goes into --token'), token })
  try {
    for (const side of [target, legacy]) if (side !== undefined) await requireThere(side)
    const keyOnTargetOnly = key !== undefined && token === undefined
    return await work({
      target,
      legacy,
      variant: flags.variant,
      ownKey: key !== undefined,
      keyOnTargetOnly,
      signal,
    })
  } finally {
    target.close()
    legacy?.close()
  }
}

async function requireThere(side: Side): Promise<void> {
  const { status, failure } = await side.ask({ method: 'GET', path: '/health' })
  if (status === 0) throw new DualstoreError('STORE_UNAVAILABLE', `${side.url} cannot be reached: ${failure}`)
  if (status === 401)
    throw new DualstoreError('UNAUTHORIZED', `${side.url} refuses the key; see --key and --token`)
}

async function secretOf(
  given: string | undefined,
  file: string | undefined,
  flag: string,
  env: string,
): Promise<string | undefined> {
  if (given !== undefined) return given
  if (file === undefined) return process.env[env] || undefined
  try {
    return (await readFile(file, 'utf8')).trim()
  } catch (error) {
    throw invalid(flag, `cannot be read: ${(error as Error).message}`)
  }
}

function parseSeconds(text: string): number {
  const seconds = Number(text)
  if (seconds > 0 && seconds <= 600) return seconds
  throw new InvalidArgumentError('It must be a number of seconds up to 600.')
}

/** `127.0.0.1:8080`, `[::1]:8080`, or a port on the loopback address. */
function parseAddress(text: string): { host: string; port: number } {
  const [, bracketed, name, port = ''] = /^(?:(?:\[([\da-f:]+)\]|([\w.-]+)):)?(\d{1,5})$/i.exec(text) ?? []
  if (port !== '' && Number(port) <= 65_535) {
    return { host: bracketed ?? name ?? '127.0.0.1', port: Number(port) }
  }
  throw new InvalidArgumentError('It must be an address and a port, such as 127.0.0.1:8080.')
}
