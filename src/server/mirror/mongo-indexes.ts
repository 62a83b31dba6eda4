import { isDeepStrictEqual } from 'node:util'
import { type Collection, type IndexDescription, MongoServerError } from 'mongodb'
import type { CollectionDefinition } from '../schemas/collection.js'
import type { LegacyDocument } from './contract.js'
import { isStorableName } from './storable.js'

type Keys = Record<string, 1 | -1>

const NAMESPACE_NOT_FOUND = 26
const INDEX_OPTIONS_CONFLICT = 85

/** Server-set fields and where they stand. They hold one string each. */
const serverFields: Readonly<Record<string, string>> = {
  id: 'id',
  created_at: 'timestamp',
  updated_at: 'metadata.updated_at',
}

/**
 * The indexes that legacy readers of a collection need: by id, newest first, by last update, and what the
 * definition's own indexes become under the legacy names, which is how session_id and sessionId come in.
 */
export function legacyIndexes(definition: CollectionDefinition): IndexDescription[] {
  const keys: Keys[] = [{ id: 1 }, { timestamp: -1 }, { 'metadata.updated_at': -1 }]
  for (const index of definition.indexes) {
    const translated = 'fields' in index ? legacyKeys(definition, index.fields) : undefined
    if (translated !== undefined && !keys.some((other) => sameKeys(other, translated))) keys.push(translated)
  }
  return keys.map((key) => ({ key, name: `dualstore_${Object.keys(key).join('_').replaceAll('.', '_')}` }))
}

/**
 * Creates what is missing of `wanted`, and the collection with it.
 * An equal index under another name, an operator's or a legacy service's, is as good.
 */
export async function ensureIndexes(
  collection: Collection<LegacyDocument>,
  wanted: readonly IndexDescription[],
): Promise<void> {
  for (const { key, name } of absent(wanted, await presentKeys(collection))) {
    await collection
      .createIndex(key as Keys, name === undefined ? {} : { name })
      .catch(async (error: unknown) => {
        // Another instance or an operator made an equal one at the same moment.
        const conflict = error instanceof MongoServerError && error.code === INDEX_OPTIONS_CONFLICT
        const now = conflict ? await presentKeys(collection) : []
        if (!now.some((keys) => sameKeys(keys, key as Keys))) throw error
      })
  }
}

/** Names of the wanted indexes that a collection lacks; none when there is no such collection yet. */
export async function missingOf(
  collection: Collection<LegacyDocument>,
  wanted: readonly IndexDescription[],
): Promise<string[]> {
  const present = await presentKeys(collection)
  return present.length === 0
    ? []
    : absent(wanted, present).map(({ name, key }) => name ?? JSON.stringify(key))
}

function absent(wanted: readonly IndexDescription[], present: readonly Keys[]): IndexDescription[] {
  return wanted.filter(({ key }) => !present.some((keys) => sameKeys(keys, key as Keys)))
}

// A compound index over two fields that both hold arrays makes MongoDB refuse the document, so an index may
// contain one field of the item's own at most; the server-set ones beside it are strings.
function legacyKeys({ mirror }: CollectionDefinition, fields: readonly string[]): Keys | undefined {
  const keys: Keys = {}
  let ownFields = 0
  for (const field of fields) {
    const serverField = Object.hasOwn(serverFields, field) ? serverFields[field] : undefined
    if (serverField === undefined) ownFields++
    const path = serverField ?? legacyPath(mirror, field)
    if (path === undefined || ownFields > 1) return undefined
    keys[path] = 1
  }
  return keys
}

function legacyPath(mirror: CollectionDefinition['mirror'], field: string): string | undefined {
  const [top = '', ...nested] = field.split('.')
  if (!nested.every(isStorableName)) return undefined
  const name = Object.hasOwn(mirror.metadata, top) ? mirror.metadata[top] : undefined
  if (name !== undefined) return isStorableName(name) ? ['metadata', name, ...nested].join('.') : undefined
  if (top === mirror.text && nested.length === 0) return 'text'
  return top === mirror.spread && nested.length > 0 ? ['metadata', ...nested].join('.') : undefined
}

async function presentKeys(collection: Collection<LegacyDocument>): Promise<Keys[]> {
  try {
    const indexes = await collection.listIndexes().toArray()
    // A partial index does not contain every document, and a hidden one serves nobody.
    return indexes
      .filter((index) => !index.partialFilterExpression && !index.hidden)
      .map(({ key }) => key as Keys)
  } catch (error) {
    if (error instanceof MongoServerError && error.code === NAMESPACE_NOT_FOUND) return []
    throw error
  }
}

/** Order counts in a compound index: {a: 1, b: 1} is not {b: 1, a: 1}. */
function sameKeys(one: Keys, other: Keys): boolean {
  return isDeepStrictEqual(Object.entries(one), Object.entries(other))
}
