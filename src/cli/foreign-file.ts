import { type FileHandle, open, stat } from 'node:fs/promises'
import { invalid } from '../server/errors.js'
import type { OperationsClient } from './client/operations.js'
import { splitLines } from './lines.js'

const BATCH = 500
const BATCH_TEXT = 2 * 1024 * 1024

/** @throws INVALID_REQUEST when the file is there: what an earlier run has kept must not be lost. */
export async function requireNewFile(file: string): Promise<void> {
  if ((await stat(file).catch(() => undefined)) !== undefined) {
    throw invalid('--delete-foreign', `names ${file}, which exists; give a new file`)
  }
}

/**
 * Moves other programs' documents out of the mirror's collections into a file: each is on the disk before it is
 * deleted, and deleted only while it still is as the file has it.
 * @returns How many were kept, and how many of these were deleted.
 */
export async function keepAndRemoveForeign(
  client: Pick<OperationsClient, 'foreign' | 'removeForeign'>,
  collections: readonly string[],
  file: string,
  signal: AbortSignal,
): Promise<{ kept: number; removed: number }> {
  const target = await open(file, 'wx')
  let kept = 0
  let removed = 0
  try {
    for (const collection of collections) {
      for await (const lines of batches(client.foreign(collection))) {
        signal.throwIfAborted()
        await keep(target, collection, lines)
        kept += lines.length
        removed += await client.removeForeign(collection, lines)
      }
    }
    return { kept, removed }
  } finally {
    await target.close()
  }
}

async function keep(target: FileHandle, collection: string, lines: readonly string[]): Promise<void> {
  const name = JSON.stringify(collection)
  await target.appendFile(lines.map((line) => `{"collection":${name},"document":${line}}\n`).join(''))
  await target.sync()
}

async function* batches(chunks: AsyncIterable<Uint8Array | string>): AsyncGenerator<string[]> {
  let batch: string[] = []
  let text = 0
  for await (const line of splitLines(chunks)) {
    batch.push(line)
    text += line.length
    if (batch.length < BATCH && text < BATCH_TEXT) continue
    yield batch
    batch = []
    text = 0
  }
  if (batch.length > 0) yield batch
}
