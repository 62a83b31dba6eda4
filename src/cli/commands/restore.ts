import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { Command, Option } from 'commander'
import type { SettingKey } from '../../server/config/settings.js'
import { DualstoreError, invalid } from '../../server/errors.js'
import { localAccess } from '../../server/services/principal.js'
import { Interrupted } from '../interrupt.js'
import { withLocalStores } from '../local-context.js'
import { counted, print, type Result, say } from '../output.js'
import { showProgress } from '../progress.js'
import { addSettings, type SettingFlags } from '../settings-options.js'

const restoreSettings: readonly SettingKey[] = [
  'databaseUrl',
  'mongodbUri',
  'mongodbDatabase',
  'agentName',
  'dualWriteEnabled',
  'dataDir',
  'logLevel',
]
type RestoreFlags = SettingFlags & {
  check?: boolean
  replace?: boolean
  yes?: boolean
  withKeys?: boolean
  skipMirror?: boolean
  json?: boolean
}

export function restoreCommand(): Command {
  const command = new Command('restore')
    .helpOption('-h, --help', 'print this help')
    .argument('<file>', 'archive to read; whether it is compressed is found out')
    .addOption(
      new Option('--check', 'only check the archive').conflicts(['replace', 'withKeys', 'skipMirror']),
    )
    .option('--replace', 'put it in the place of what there is; with --yes')
    .option('--yes', 'yes, what there is and is not in the archive goes')
    .option('--with-keys', 'add the API keys of the archive; those that are there stay as they are')
    .option('--skip-mirror', 'do not look at the mirror; it is marked as lost and must be built anew')
    .option('--json', 'print one JSON document on what was done')
    .addHelpText(
      'after',
      `
The archive is checked to its last byte before anything is written, and restored wholly or not at all. Servers on this
database must be stopped. The log gets a new epoch: clients of streams are sent a reset when they come back.

Examples:
  dualstore restore dualstore-2026-01-31.ndjson.gz
  dualstore restore all.ndjson --replace --yes --database-url postgresql://user@host/db
  dualstore restore all.ndjson --check --json`,
    )
    .action(async (file: string, flags: RestoreFlags) => {
      if (flags.replace && !flags.yes) {
        throw new DualstoreError(
          'CONFIRMATION_REQUIRED',
          '--replace needs --yes: what is not in the archive goes',
        )
      }
      const opened = await archive(file)
      await print(flags.check ? await check(file, opened) : await restore(file, opened, flags), flags)
    })
  return addSettings(command, restoreSettings, 'Local stores')
}

async function check(file: string, opened: () => Readable): Promise<Result> {
  const { readManifest } = await import('../../server/services/backup.js')
  const { manifest, sha256 } = await readManifest(opened())
  say(`${file} is whole: ${counted(manifest.documents, 'document')} of ${manifest.created}`)
  return { json: { file, sha256, ...manifest }, text: [] }
}

async function restore(file: string, opened: () => Readable, flags: RestoreFlags): Promise<Result> {
  const { replace, withKeys, skipMirror } = flags
  let documents = 0
  const report = await withLocalStores(flags, { migrate: 'any' }, async ({ backup }, signal) => {
    const progress = await showProgress({
      label: 'restoring',
      documents: () => documents,
      done: () => documents,
      total: undefined,
    })
    try {
      const request = {
        replace,
        withKeys,
        skipMirror,
        onProgress: (count: number) => {
          documents = count
        },
      }
      return await backup.restore(localAccess, () => endedBy(signal, opened(), file), request)
    } finally {
      progress.stop()
    }
  })
  const { manifest, ...done } = report
  say(`restored ${counted(manifest.documents, 'document')} from ${file}, the state of ${manifest.created}`)
  say('note: the log has a new epoch; the mirror follows when a server runs (dualstore serve)')
  return { json: { file, documents: manifest.documents, ...done }, text: [] }
}

/** It is one transaction, which an archive that breaks off rolls back. */
function endedBy(signal: AbortSignal, source: Readable, file: string): Readable {
  const stop = () => void source.destroy(new Interrupted(`interrupted; nothing of ${file} was restored`))
  signal.addEventListener('abort', stop, { once: true })
  source.once('close', () => signal.removeEventListener('abort', stop))
  if (signal.aborted) stop()
  return source
}

/** @throws INVALID_REQUEST when the file cannot be read. */
async function archive(file: string): Promise<() => Readable> {
  const start = Buffer.alloc(2)
  try {
    const handle = await open(file)
    await handle.read(start, 0, 2, 0).finally(() => handle.close())
  } catch (error) {
    throw invalid('<file>', `${file} cannot be read: ${(error as Error).message}`)
  }
  const compressed = start[0] === 0x1f && start[1] === 0x8b
  return () => {
    const source = createReadStream(file, { highWaterMark: 256 * 1024 })
    // Whoever reads is told of errors by the last stream.
    return compressed ? pipeline(source, createGunzip(), () => {}) : source
  }
}
