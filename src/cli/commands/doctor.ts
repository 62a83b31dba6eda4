import { Command } from 'commander'
import { DualstoreError } from '../../server/errors.js'
import type { Finding } from '../../server/services/doctor.js'
import type { ServerAddress } from '../client/http.js'
import { addConnection, type ConnectionFlags, serverOf } from '../client/open.js'
import { interruptible, unlessAborted } from '../interrupt.js'
import { counted, print, say } from '../output.js'
import { EXIT_FOUND } from '../report.js'
import { loadSettings } from '../settings-options.js'

type DoctorFlags = ConnectionFlags & { json?: boolean }

const MARKS: Readonly<Record<Finding['level'], string>> = { ok: 'ok', warning: 'WARNING', problem: 'PROBLEM' }
const SKEW_MS = 5000

export function doctorCommand(): Command {
  const command = new Command('doctor')
    .helpOption('-h, --help', 'print this help')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Changes nothing. Exits with 1 when there is a problem; warnings alone leave 0.

Examples:
  dualstore doctor
  dualstore doctor --url http://127.0.0.1:3000
  dualstore doctor --json | jq '.findings[] | select(.level != "ok")'`,
    )
    .action(async (flags: DoctorFlags) => {
      const server = await serverOf(flags)
      const findings = await interruptible((signal) =>
        unlessAborted(signal, server === undefined ? local(flags) : remote(server)),
      )
      const of = (level: Finding['level']) => findings.filter((finding) => finding.level === level).length
      const healthy = of('problem') === 0
      if (!healthy) process.exitCode = EXIT_FOUND
      const rows = findings.map(({ level, check, message, mend }) => [
        MARKS[level],
        check,
        message,
        mend ?? '',
      ])
      await print(
        { json: { healthy, findings }, text: [{ head: ['LEVEL', 'CHECK', 'FOUND', 'WHAT MENDS IT'], rows }] },
        flags,
      )
      say(`${counted(of('problem'), 'problem')}, ${counted(of('warning'), 'warning')}`)
    })
  return addConnection(command, [
    'databaseUrl',
    'databasePoolSize',
    'mongodbUri',
    'mongodbDatabase',
    'agentName',
    'dualWriteEnabled',
    'dataDir',
    'logLevel',
  ])
}

async function local(flags: DoctorFlags): Promise<Finding[]> {
  const loaded = await loadSettings(flags)
  const [{ diagnose }, { createCommandLog }] = await Promise.all([
    import('../../server/context.js'),
    import('../log.js'),
  ])
  return diagnose(loaded.config, await createCommandLog(loaded))
}

async function remote(server: ServerAddress): Promise<Finding[]> {
  const [{ request }, { examineMetrics }] = await Promise.all([
    import('../client/http.js'),
    import('../../server/services/doctor/metrics.js'),
  ])
  try {
    const asked = Date.now()
    const response = await request(server, '/metrics')
    return [...clockOf(response, asked), ...examineMetrics(await response.text())]
  } catch (error) {
    if (!(error instanceof DualstoreError)) throw error
    const mend =
      error.code === 'NOT_FOUND'
        ? 'DUALSTORE_METRICS=on'
        : error.status === 401 || error.status === 403
          ? 'give a key with --key, or DUALSTORE_METRICS_TOKEN'
          : 'dualstore serve'
    return [{ check: 'server', level: 'problem', message: error.message, mend }]
  }
}

/** The Date header has whole seconds only. */
function clockOf(response: Response, asked: number): Finding[] {
  const clock = Date.parse(response.headers.get('date') ?? '')
  if (Number.isNaN(clock)) return []
  const skew = Math.abs(clock - (asked + Date.now()) / 2)
  const message = `the server's differs by about ${Math.round(skew / 1000)} s from this one`
  return skew > SKEW_MS ? [{ check: 'clocks', level: 'warning', message, mend: 'run NTP on both' }] : []
}
