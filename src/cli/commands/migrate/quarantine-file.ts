import { open, stat } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type FileTarget, fileTarget } from '../../file-target.js'

/** What a file of an earlier run begins with. */
const OWN = '{"collection":"'

/**
 * Where the quarantine goes. What an earlier run wrote is overwritten; anything else only with --yes.
 * @throws CONFIRMATION_REQUIRED, INVALID_REQUEST naming the flag
 */
export async function quarantineTarget(file: string, yes: boolean | undefined): Promise<FileTarget> {
  return fileTarget('--quarantine', file, yes || (await isOwn(file)))
}

/** Writes the file wholly or not at all. */
export async function writeQuarantine(target: FileTarget, lines: AsyncIterable<string>): Promise<void> {
  try {
    await pipeline(Readable.from(lines), target.open())
    await target.complete()
  } catch (error) {
    await target.abandon()
    throw error
  }
}

async function isOwn(file: string): Promise<boolean> {
  if (!(await stat(file).catch(() => undefined))?.isFile()) return false
  const handle = await open(file)
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(OWN.length), 0, OWN.length, 0)
    return bytesRead === 0 || buffer.toString('utf8', 0, bytesRead) === OWN
  } finally {
    await handle.close()
  }
}
