import { isDeepStrictEqual } from 'node:util'
import type { CollectionDefinition } from '../schemas/collection.js'
import type { Item, Json } from '../schemas/item.js'
import type { LegacyDocument, MirrorChange, MirroredDocument, Rejection } from './contract.js'
import { storable, storableMembers } from './storable.js'

type Fields = { [field: string]: Json }

/** `metadata` fields that stand in every legacy document; a mapping or a spread key of the same name gives way. */
const COMMON_FIELDS = ['updated_at', 'timestamp', 'vectorWriteSuccess', 'vectorWriteTimestamp']
const METADATA_LEVEL = 2

/**
 * The document in the legacy shape (legacy contract, section 8). The whole item is kept beside the legacy fields
 * exactly when these alone would not give it back (I12), which is found out by reading them back.
 * @throws RangeError when the item nests so deep that it has no JSON text.
 */
export function toLegacy(
  definition: CollectionDefinition,
  { item, seq, version }: MirroredDocument,
): LegacyDocument {
  const { mirror } = definition
  const document: LegacyDocument = {
    _id: item.id,
    id: item.id,
    text: textOf(mirror.text === null ? undefined : own(item, mirror.text)),
    timestamp: item.created_at,
    metadata: metadataOf(definition, item),
    dualstore: { seq, version },
  }
  if (!isDeepStrictEqual(fromFields(definition, document), item)) document.dualstore.item = exactJson(item)
  return document
}

/**
 * The item, position and version of a document in the legacy shape. A document whose `dualstore.item` another
 * program made unreadable is read from its legacy fields, so that one such document does not end a whole scan.
 */
export function fromLegacy(definition: CollectionDefinition, document: LegacyDocument): MirroredDocument {
  const { seq, version, item } = document.dualstore
  return { item: parsed(item) ?? fromFields(definition, document), seq, version }
}

/** The legacy document of a change that is not a delete, or why the mirror can never hold it. */
export function shaped(
  change: MirrorChange,
  item: Item,
): { document: LegacyDocument } | { rejection: Rejection } {
  try {
    return { document: toLegacy(change.definition, { item, seq: change.seq, version: change.version }) }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    return { rejection: { change, reason: 'the item nests too deep to be written as JSON text' } }
  }
}

function metadataOf({ mirror }: CollectionDefinition, item: Item): Fields {
  const spread = mirror.spread === null ? undefined : own(item, mirror.spread)
  const fields: [string, Json][] = isObject(spread) ? Object.entries(spread) : []
  for (const [field, name] of Object.entries(mirror.metadata)) {
    const value = own(item, field)
    if (value !== undefined) fields.push([name, value])
  }
  fields.push(['updated_at', item.updated_at], ['timestamp', item.created_at])
  // Legacy readers expect to be told about the vector copy. dualstore keeps none, so none was ever written.
  fields.push(['vectorWriteSuccess', false], ['vectorWriteTimestamp', null])
  // Of fields with one name the last wins: legacy fields over spread ones. fromEntries keeps `__proto__` a plain key.
  return storableMembers(Object.fromEntries(fields), METADATA_LEVEL)
}

/**
 * The item as the legacy fields alone tell it. Built member by member in one order: objects put together in other ways
 * cost V8 a description of their own for each document, which fills the old part of the heap.
 */
function fromFields(definition: CollectionDefinition, document: LegacyDocument): Item {
  const { mirror } = definition
  const metadata = isObject(document.metadata) ? document.metadata : {}
  const item: Fields = {}
  if (mirror.text !== null && !Object.hasOwn(mirror.metadata, mirror.text))
    put(item, mirror.text, document.text)
  for (const [field, name] of Object.entries(mirror.metadata)) {
    const value = own(metadata, name)
    if (value !== undefined) put(item, field, value)
  }
  if (mirror.spread !== null) {
    const legacyNames = legacyNamesOf(definition)
    const rest: Fields = {}
    let empty = true
    for (const name of Object.keys(metadata)) {
      if (legacyNames.has(name)) continue
      put(rest, name, metadata[name] as Json)
      empty = false
    }
    // Nothing beside the legacy fields reads as a missing field; an item with an empty one keeps its own text.
    if (!empty) put(item, mirror.spread, rest)
  }
  item.id = document.id
  item.created_at = document.timestamp
  item.updated_at = own(metadata, 'updated_at') as string
  return item as Item
}

const legacyNames = new WeakMap<CollectionDefinition, ReadonlySet<string>>()

/** Metadata fields that are not spread ones; worked out once for a definition. */
function legacyNamesOf(definition: CollectionDefinition): ReadonlySet<string> {
  const known = legacyNames.get(definition)
  if (known !== undefined) return known
  const names = new Set([...COMMON_FIELDS, ...Object.values(definition.mirror.metadata)])
  legacyNames.set(definition, names)
  return names
}

/** Sets a member; `__proto__` is a plain name like any other. */
function put(object: Fields, name: string, value: Json): void {
  if (name !== '__proto__') object[name] = value
  else Object.defineProperty(object, name, { value, enumerable: true, configurable: true, writable: true })
}

function textOf(value: Json | undefined): string {
  const text = typeof value === 'string' ? storable(value, 1) : undefined
  return typeof text === 'string' ? text : ''
}

function parsed(text: string | undefined): Item | undefined {
  if (typeof text !== 'string') return undefined
  try {
    const item: unknown = JSON.parse(text)
    return isObject(item) ? (item as Item) : undefined
  } catch {
    return undefined
  }
}

/** JSON.stringify that keeps -0, which JSON can say and JSON.stringify does not. */
function exactJson(value: Json): string {
  if (Object.is(value, -0)) return '-0'
  if (Array.isArray(value)) return `[${value.map(exactJson).join(',')}]`
  if (!isObject(value)) return JSON.stringify(value)
  const members = Object.entries(value).map(
    ([name, member]) => `${JSON.stringify(name)}:${exactJson(member)}`,
  )
  return `{${members.join(',')}}`
}

/** A field that is the object's own: an item may lack `constructor` or carry `__proto__` like any other name. */
function own(object: Fields, name: string): Json | undefined {
  return Object.hasOwn(object, name) ? object[name] : undefined
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
