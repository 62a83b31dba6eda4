import type { LegacyDocument } from '../mirror/contract.js'
import { fromLegacy } from '../mirror/legacy-shape.js'
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
