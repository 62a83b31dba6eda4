import type { Readable } from 'node:stream'
import { CHANGES_CHANNEL, COLLECTIONS_CHANNEL, type Hints } from '../changes/hints.js'
import type { Pool } from '../db/pool.js'
import { snapshot } from '../db/transaction.js'
import { DualstoreError } from '../errors.js'
import type { Mirror } from '../mirror/contract.js'
import type { Manifest } from './backup/format.js'
import { readArchive } from './backup/read.js'
import { type RestoreReport, requireEmpty, requireNoServer, restoreArchive } from './backup/restore.js'
import { archiveChunks } from './backup/write.js'
import type { Access } from './principal.js'

export type { Manifest } from './backup/format.js'
export type { RestoreReport } from './backup/restore.js'

export interface BackupServiceOptions {
  pool: Pool
  hints: Hints
  mirror: Mirror | undefined
  now?: () => number
}

export interface BackupOptions {
  /** Version of the program. */
  program: string
  withKeys?: boolean | undefined
  /** Told the number of documents so far. */
  onProgress?: (documents: number) => void
}

export interface RestoreRequest {
  replace?: boolean | undefined
  withKeys?: boolean | undefined
  /** Told the number of documents so far. */
  onProgress?: (documents: number) => void
  /** Do not look at the mirror: it is marked as lost, and must be built anew. */
  skipMirror?: boolean | undefined
}

export type BackupService = ReturnType<typeof createBackupService>

/** Reads all of an archive, checks it, and keeps nothing but what it tells of itself. @throws INVALID_ARCHIVE */
export async function readManifest(source: Readable): Promise<{ manifest: Manifest; sha256: string }> {
  for await (const piece of readArchive(source)) {
    if (piece.kind === 'end') return { manifest: piece.manifest, sha256: piece.sha256 }
  }
  throw new DualstoreError('INVALID_ARCHIVE', 'the archive has no end')
}

export function createBackupService({ pool, hints, mirror, now = Date.now }: BackupServiceOptions) {
  return {
    /**
     * Writes the state at one position of the log as an archive, in constant memory.
     * @param to Takes its text; the archive is whole when it resolves.
     */
    async backup(
      to: (chunks: AsyncIterable<string>) => Promise<void>,
      { program, withKeys = false, onProgress = () => {} }: BackupOptions,
    ): Promise<{ manifest: Manifest; sha256: string }> {
      return snapshot(pool, async (read) => {
        let written: { manifest: Manifest; sha256: string } | undefined
        async function* chunks() {
          written = yield* archiveChunks(read, { program, withKeys, now, onProgress })
        }
        await to(chunks())
        if (written === undefined)
          throw new DualstoreError('INTERNAL', 'the archive was not taken to its end')
        return written
      })
    },

    /**
     * Checks an archive wholly, and then makes the database what it tells: all of it or, when anything goes wrong,
     * nothing. The log gets a new epoch.
     * @param open Opens the archive from its beginning; it is read twice.
     * @throws INVALID_ARCHIVE; CONFLICT when there is something to be replaced and that was not asked for, or a server
     * runs; MIRROR_UNAVAILABLE, and nothing is written
     */
    async restore(
      access: Access,
      open: () => Readable,
      request: RestoreRequest = {},
    ): Promise<RestoreReport> {
      const { replace = false, withKeys = false, skipMirror = false, onProgress = () => {} } = request
      await requireNoServer(pool)
      if (!replace) await requireEmpty(pool)
      const looked = skipMirror ? undefined : mirror
      await looked?.ping()
      const { sha256 } = await readManifest(open())
      const report = await restoreArchive(pool, looked, open, {
        access,
        replace,
        withKeys,
        onProgress,
        sha256,
      })
      hints.tell(CHANGES_CHANNEL)
      hints.tell(COLLECTIONS_CHANNEL)
      return report
    },
  }
}
