import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Command } from 'commander'
import type { SettingKey } from '../../server/config/settings.js'
import { localAccess } from '../../server/services/principal.js'
import { fileTarget } from '../file-target.js'
import { Interrupted } from '../interrupt.js'
import { withLocalStores } from '../local-context.js'
import { counted, print, say } from '../output.js'
import { showProgress } from '../progress.js'
import { addSettings, type SettingFlags } from '../settings-options.js'
import { version } from '../version.js'

const backupSettings: readonly SettingKey[] = ['databaseUrl', 'dataDir', 'logLevel']
type BackupFlags = SettingFlags & { withKeys?: boolean; yes?: boolean; json?: boolean }

export function backupCommand(): Command {
  const command = new Command('backup')
    .helpOption('-h, --help', 'print this help')
    .argument('<file>', 'file to write, complete or not at all; compressed when its name ends in .gz')
    .option('--with-keys', 'also the API keys: their hashes, never a secret')
    .option('--yes', 'overwrite the file when there is one')
    .option('--json', 'print one JSON document on what was written')
    .addHelpText(
      'after',
      `
Servers go on meanwhile. Holds no change log and no state of the mirror: "dualstore restore" gives the log a new epoch.

Examples:
  dualstore backup dualstore-2026-01-31.ndjson.gz
  dualstore backup all.ndjson --with-keys --database-url postgresql://user@host/db`,
    )
    .action(async (file: string, flags: BackupFlags) => {
      const target = await fileTarget('<file>', file, flags.yes)
      let documents = 0
      let bytes = 0
      const meter = new Transform({
        transform(chunk: Buffer, _encoding, done) {
          bytes += chunk.length
          done(null, chunk)
        },
      })
      const { manifest, sha256 } = await withLocalStores(
        flags,
        { migrate: 'embedded' },
        async (stores, signal) => {
          const progress = await showProgress({
            label: 'backing up',
            documents: () => documents,
            done: () => documents,
            total: (await stores.collections.list(localAccess)).reduce(
              (sum, collection) => sum + collection.documents,
              0,
            ),
          })
          try {
            const options = {
              program: version(),
              withKeys: flags.withKeys,
              onProgress: (count: number) => {
                documents = count
              },
            }
            const written = await stores.backup.backup(async (chunks) => {
              await pipeline(chunks, await compressor(file), meter, target.open(), { signal })
            }, options)
            progress.stop()
            await target.complete()
            return written
          } catch (error) {
            progress.stop()
            await target.abandon()
            if (signal.aborted) throw new Interrupted(`interrupted; ${file} was not written`)
            throw error
          }
        },
      )
      say(`backed up ${counted(manifest.documents, 'document')} to ${file}`)
      await print({ json: { file, bytes, sha256, ...manifest }, text: [] }, flags)
    })
  return addSettings(command, backupSettings, 'Local stores')
}

async function compressor(file: string): Promise<Transform> {
  if (!file.endsWith('.gz'))
    return new Transform({ transform: (chunk, _encoding, done) => done(null, chunk) })
  const { createGzip } = await import('node:zlib')
  return createGzip()
}
