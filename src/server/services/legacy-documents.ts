import type { LegacyDocument } from '../mirror/contract.js'
import { fromLegacy, toLegacy } from '../mirror/legacy-shape.js'
import type { CollectionDefinition } from '../schemas/collection.js'
import type { Item } from '../schemas/item.js'

/** The item of a document that dualstore wrote into a mirror; of `isMirrored` documents only. */
export function mirroredItem(definition: CollectionDefinition, document: object): Item {
  return fromLegacy(definition, document as LegacyDocument).item
}

/** True for a document that dualstore wrote into a mirror: no other program gives it a position. */
export function isMirrored(document: { readonly [field: string]: unknown }): boolean {
  if (!Object.hasOwn(document, 'dualstore')) return false
  const { dualstore } = document
  return typeof dualstore === 'object' && dualstore !== null && 'seq' in dualstore
}

/** The item as the legacy server would have stored it, without what dualstore adds: fields it has no place for are left out. */
export function legacyFields(
  definition: CollectionDefinition,
  item: Item,
): Omit<LegacyDocument, '_id' | 'dualstore'> {
  const { id, text, timestamp, metadata } = toLegacy(definition, { item, seq: 0, version: 0 })
  return { id, text, timestamp, metadata }
}
