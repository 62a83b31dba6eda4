import type { Pool } from '../db/pool.js'
import { DualstoreError, invalid } from '../errors.js'
import type { Mirror } from '../mirror/contract.js'
import { existingAmong } from '../store/chunks.js'
import type { Registry } from './registry.js'

export interface ForeignServiceOptions {
  pool: Pool
  registry: Registry
  mirror: Mirror | undefined
}

export type ForeignService = ReturnType<typeof createForeignService>

const BATCH = 200
const BATCH_TEXT = 4 * 1024 * 1024

/**
 * Documents of other programs in the mirror's collections. dualstore leaves them alone: they are deleted only by whoever
 * holds them as lines of text, which is how a caller is made to keep them first.
 */
export function createForeignService({ pool, registry, mirror }: ForeignServiceOptions) {
  const requireMirror = (): Mirror => {
    if (mirror !== undefined) return mirror
    throw new DualstoreError('MIRROR_UNAVAILABLE', 'there is no mirror: DUAL_WRITE_ENABLED is false')
  }

  return {
    /** Whole documents as NDJSON in canonical extended JSON, in chunks of whole lines. @throws COLLECTION_NOT_FOUND */
    async list(name: string): Promise<AsyncGenerator<string>> {
      const { definition } = await registry.get(name)
      const documents = requireMirror().foreign(definition, 'whole')
      return (async function* () {
        let batch: { id: string | undefined; line: string }[] = []
        let text = 0
        for await (const document of documents) {
          batch.push(document)
          text += document.line.length
          if (batch.length < BATCH && text < BATCH_TEXT) continue
          yield await linesOf(name, batch)
          batch = []
          text = 0
        }
        if (batch.length > 0) yield await linesOf(name, batch)
      })()
    },

    /** Deletes those documents that still are exactly as these lines say; returns how many. */
    async remove(name: string, lines: readonly string[]): Promise<number> {
      const { definition } = await registry.get(name)
      for (const [index, line] of lines.entries()) {
        if (!isDocument(line)) throw invalid(`body.lines.${index}`, 'must be a line of the list, unchanged')
      }
      return requireMirror().removeForeign(definition, lines)
    },
  }

  /** A document in the place of one of ours is not foreign: the follower or a repair writes over it. */
  async function linesOf(
    collection: string,
    batch: readonly { id: string | undefined; line: string }[],
  ): Promise<string> {
    const ids = batch.flatMap(({ id }) => (id === undefined || id.includes('\0') ? [] : [id]))
    const taken = await existingAmong(pool, collection, ids)
    return batch
      .filter(({ id }) => id === undefined || !taken.has(id))
      .map(({ line }) => `${line}\n`)
      .join('')
  }
}

function isDocument(line: string): boolean {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null && '_id' in value
  } catch {
    return false
  }
}
