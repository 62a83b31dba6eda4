import { createWriteStream } from 'node:fs'
import { open, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Writable } from 'node:stream'
import { DualstoreError, invalid } from '../server/errors.js'

/** A file that is written wholly or not at all. */
export interface FileTarget {
  open(): Writable
  /** Gives the file its name. */
  complete(): Promise<void>
  /** Leaves nothing behind. */
  abandon(): Promise<void>
}

/**
 * A file that has its name only when all of it is on the disk: after a crash, too, the name holds all of it, or what it
 * held before. A device or pipe is written as it is.
 * @param flag What names the file on the command line.
 * @throws CONFIRMATION_REQUIRED when the file is there and may not be overwritten; INVALID_REQUEST naming the flag
 */
export async function fileTarget(flag: string, file: string, yes: boolean | undefined): Promise<FileTarget> {
  const existing = await stat(file).catch(() => undefined)
  if (existing?.isDirectory()) throw invalid(flag, `names the directory ${file}; give a file in it`)
  // Renaming onto it would replace it.
  if (existing !== undefined && !existing.isFile()) {
    return { open: () => createWriteStream(file), complete: async () => {}, abandon: async () => {} }
  }
  if (existing !== undefined && !yes) {
    throw new DualstoreError(
      'CONFIRMATION_REQUIRED',
      `${flag} names ${file}, which exists; --yes overwrites it`,
    )
  }
  const folder = dirname(file)
  const about = await stat(folder).catch(() => undefined)
  if (!about?.isDirectory()) throw invalid(flag, `names ${file}, but there is no folder ${folder}`)
  const part = join(folder, `.${basename(file)}.${process.pid}.part`)
  return {
    open: () => createWriteStream(part, { flags: 'wx', flush: true }),
    async complete() {
      await rename(part, file)
      // The name itself is on the disk when its folder is; some systems cannot sync a folder.
      const handle = await open(folder).catch(() => undefined)
      await handle?.sync().catch(() => {})
      await handle?.close()
    },
    abandon: () => rm(part, { force: true }),
  }
}
