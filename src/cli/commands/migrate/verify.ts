import { Command, InvalidArgumentError } from 'commander'
import type { MigrationVerification } from '../../../migrate/verify.js'
import type { SettingKey } from '../../../server/config/settings.js'
import type { Context } from '../../../server/context.js'
import type { Migration, SourceFinding } from '../../../server/services/migrations.js'
import { localAccess } from '../../../server/services/principal.js'
import { runToEnd, sayResult } from '../../audit-report.js'
import { type FileTarget, fileTarget } from '../../file-target.js'
import { Interrupted } from '../../interrupt.js'
import { withLocalStores } from '../../local-context.js'
import { findingText, sayVerification, verificationText } from '../../migration-lines.js'
import { print, say } from '../../output.js'
import { showProgress } from '../../progress.js'
import { EXIT_FOUND } from '../../report.js'
import { addSettings } from '../../settings-options.js'
import { migrationSettings } from './settings.js'
import { addSource, openSource, type SourceFlags } from './source.js'

interface VerifyFlags extends SourceFlags {
  rate?: number
  skipMirror?: boolean
  report?: string
  yes?: boolean
  json?: boolean
}

/** The mirror's prefix is not among them: --agent-name means the legacy server's here. */
const mirrorSettings: readonly SettingKey[] = [
  'mongodbUri',
  'mongodbDatabase',
  'mirrorTimeoutMs',
  'waitTimeoutMs',
]
/** Findings that people are shown; the report names all. */
const SHOWN = 20
const MIRROR = 'mirror'

export function migrationVerifyCommand(): Command {
  const command = new Command('verify')
    .description(
      'Compare the source with PostgreSQL, both ways, and PostgreSQL with the mirror; changes neither',
    )
    .helpOption('-h, --help', 'print this help')
    .option('--skip-mirror', 'compare the source with PostgreSQL only')
    .option('--rate <documents>', 'read so many documents of the source a second at most', positive)
    .option('--report <file>', 'write each difference to this file as one line of JSON, wholly or not at all')
    .option('--yes', 'overwrite that file')
    .option('--json', 'print the result as one JSON document')
    .addHelpText(
      'after',
      `
Exits with 1 when anything differs. A clean result makes the migration "verified"; one that is not takes that back.
While another process follows the source, what differs is looked at again when that one has caught up. Database and
agent name are those of the migration unless given. The mirror is compared by a job: by the server that leads it when
one runs, otherwise here.

Examples:
  dualstore migrate-from-dualstore-http verify --mongo-uri mongodb://127.0.0.1:27017
  dualstore migrate-from-dualstore-http verify --skip-mirror --report differences.ndjson --json`,
    )
    .action(async (flags: VerifyFlags) => {
      const target =
        flags.report === undefined ? undefined : await fileTarget('--report', flags.report, flags.yes)
      const { agentName, ...settings } = flags
      await withLocalStores(settings, { migrate: 'embedded' }, async (context, signal) => {
        const findings = createFindings(target)
        try {
          const verification = await verify(context, flags, findings, signal)
          await findings.complete()
          await print(
            { json: verification, text: [...verificationText(verification), ...findings.shown] },
            flags,
          )
          sayVerification(verification)
          if (!verification.clean) process.exitCode = EXIT_FOUND
        } catch (error) {
          await findings.abandon()
          throw signal.aborted ? new Interrupted('interrupted; nothing was kept of it') : error
        }
      })
    })
  return addSettings(addSource(command), [...migrationSettings, ...mirrorSettings], 'Local stores')
}

async function verify(
  context: Context,
  flags: VerifyFlags,
  findings: ReturnType<typeof createFindings>,
  signal: AbortSignal,
): Promise<MigrationVerification> {
  const { migrations } = context
  const [{ concludeVerification, verifiable, verifySource }, { mongoPlaceOf }] = await Promise.all([
    import('../../../migrate/verify.js'),
    import('../../../migrate/sources/mongo.js'),
  ])
  const place = mongoPlaceOf((await migrations.current())?.source_identity ?? '')
  const source = await openSource({ ...place, ...flags }, context.log, { look: true })
  try {
    const migration = await verifiable(migrations, source)
    let read = 0
    const progress = await showProgress({
      label: 'verifying the source',
      documents: () => read,
      done: () => read,
      total: migration.collections.reduce((sum, { documents }) => sum + documents, 0),
    })
    const compared = await verifySource({
      source,
      migrations,
      migration,
      rate: flags.rate,
      signal,
      onFinding: findings.add,
      onProgress(documents) {
        read = documents
      },
    }).finally(() => progress.stop())
    const mirror = await verifyMirror(context, migration, flags, signal)
    return await concludeVerification(migrations, localAccess, migration.id, compared, mirror)
  } finally {
    await source.close()
  }
}

/** Compares PostgreSQL with the mirror where whoever leads the mirror is, or tells why that was not done. */
async function verifyMirror(
  context: Context,
  { collections }: Migration,
  { skipMirror }: VerifyFlags,
  signal: AbortSignal,
): Promise<MigrationVerification['mirror']> {
  if (skipMirror) return { skipped: 'was not asked for (--skip-mirror)' }
  if (context.mirror === undefined) return { skipped: 'there is none: DUAL_WRITE_ENABLED is false' }
  const { state, reason } = await context.overview.mirror(MIRROR)
  if (state === 'paused') return { skipped: `is paused${reason === null ? '' : ` (${reason})`}` }
  const { localOperations } = await import('../../client/operations-local.js')
  const names = collections.map(({ collection }) => collection)
  const job = await runToEnd(localOperations(context), 'verify', { collections: names }, signal)
  sayResult(job.result)
  return job.result
}

/** Writes findings to a report, when there is to be one, and keeps the first for people. */
function createFindings(target: FileTarget | undefined) {
  const file = target?.open()
  // Told by the write itself; without a listener it would end the process.
  file?.on('error', () => {})
  const shown: string[] = []
  let count = 0
  return {
    shown,
    async add(finding: SourceFinding): Promise<void> {
      if (count++ < SHOWN) shown.push(findingText(finding))
      else if (count === SHOWN + 1) say(`only the first ${SHOWN} differences are shown; --report names all`)
      if (file === undefined) return
      await new Promise<void>((resolve, reject) => {
        file.write(`${JSON.stringify(finding)}\n`, (error) => (error ? reject(error) : resolve()))
      })
    },
    async complete(): Promise<void> {
      if (file === undefined) return
      await new Promise<void>((resolve, reject) => file.on('error', reject).end(resolve))
      await target?.complete()
    },
    async abandon(): Promise<void> {
      file?.destroy()
      await target?.abandon()
    },
  }
}

function positive(text: string): number {
  const value = Number(text)
  if (Number.isInteger(value) && value > 0) return value
  throw new InvalidArgumentError('must be a whole number above 0')
}
