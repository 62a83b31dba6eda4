import { isDeepStrictEqual } from 'node:util'
import type { LegacyDocument, RawDocument } from '../../mirror/contract.js'
import { type Difference, differencesOf, shortText } from '../../mirror/difference.js'
import { fromLegacy, toLegacy } from '../../mirror/legacy-shape.js'
import type { CollectionDefinition } from '../../schemas/collection.js'
import type { Item } from '../../schemas/item.js'
import type { createDigest } from '../../store/chunks.js'
import type { StoredDocument } from '../../store/documents.js'

/** How a mirrored document compares with the one in PostgreSQL. */
export type Comparison =
  | { kind: 'equal' }
  | { kind: 'missing' | 'extra' }
  | { kind: 'different'; differences: Difference[] }

/**
 * Compares a document with what lies under its id in the mirror, which must be its legacy shape and nothing else.
 * @param head Where the log ends: no position in the mirror can be behind it.
 */
export function compareDocument(
  definition: CollectionDefinition,
  stored: StoredDocument | undefined,
  raw: RawDocument | undefined,
  head: number,
): Comparison {
  if (stored === undefined) {
    // Without a position it is another program's, and none of our business.
    return raw !== undefined && isOurs(raw) ? { kind: 'extra' } : { kind: 'equal' }
  }
  if (raw === undefined) return { kind: 'missing' }
  const seq = positionOf(raw)
  const expected = legacyOf(definition, { ...stored, seq: seq as number })
  if (expected === undefined) {
    const ours = 'nests too deep for the mirror'
    return { kind: 'different', differences: [{ path: '', ours }] }
  }
  const differences = isOurs(raw)
    ? differencesOf(expected, raw)
    : differencesOf({ ...expected, dualstore: { version: stored.version } }, raw)
  if (isOurs(raw) && !isPosition(seq, head)) {
    differences.push({ path: 'dualstore.seq', ours: `${head} at most`, theirs: shortText(seq) })
  }
  return differences.length === 0 ? { kind: 'equal' } : { kind: 'different', differences }
}

/**
 * Adds a mirrored document to a hash, when its legacy fields are those of the document it stands for; false when they
 * are not, so that no hash of it means anything.
 */
export function addRaw(
  digest: ReturnType<typeof createDigest>,
  definition: CollectionDefinition,
  raw: RawDocument,
  head: number,
): boolean {
  if (!isPosition(positionOf(raw), head)) return false
  try {
    const document = fromLegacy(definition, raw as unknown as LegacyDocument)
    if (!isDeepStrictEqual(toLegacy(definition, document), raw)) return false
    digest.add(document.item.id, document.version, document.item)
    return true
  } catch (error) {
    // Nested too deep, or made of what no JSON holds.
    if (error instanceof RangeError || error instanceof TypeError) return false
    throw error
  }
}

/** True when dualstore wrote it: it has a position, right or wrong. */
export function isOurs(raw: RawDocument): boolean {
  return positionOf(raw) !== undefined
}

export function positionOf(raw: RawDocument): unknown {
  const { dualstore } = raw
  return typeof dualstore === 'object' && dualstore !== null && 'seq' in dualstore ? dualstore.seq : undefined
}

function isPosition(seq: unknown, head: number): boolean {
  return Number.isSafeInteger(seq) && (seq as number) >= 0 && (seq as number) <= head
}

function legacyOf(
  definition: CollectionDefinition,
  { text, version, seq }: StoredDocument & { seq: number },
): LegacyDocument | undefined {
  try {
    return toLegacy(definition, { item: JSON.parse(text) as Item, version, seq })
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}
