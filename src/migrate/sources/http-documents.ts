import { createHash } from 'node:crypto'
import type { CollectionDefinition } from '../../server/schemas/collection.js'
import { type Fields, isPlain } from '../understand/json.js'
import { understand } from '../understand.js'
import type { SourceDocument } from './contract.js'

/** A document that was read through a list, and how well. */
export interface ListedDocument extends SourceDocument {
  /** Fields that the server emptied, or that were empty. */
  emptied: readonly string[]
}

/**
 * Documents of a list. Their ids are made up anew for each request, so a document is named by what it says. (The ten
 * newest could be had with their true ids from /debug/dualstore-data; but in the next run they are not among the ten,
 * and would come a second time under another id.)
 * @param offset Of the first item, which tells items apart that the server emptied altogether.
 */
export function documentsOf(
  definition: CollectionDefinition,
  items: readonly Fields[],
  offset: number,
): ListedDocument[] {
  return items.map((item, index) => {
    const document = asStored(definition, item)
    const sourceId =
      contentOf(definition, document) ?? hash(['unclear', definition.name, item, offset + index])
    return { sourceId, document, emptied: emptiedOf(item) }
  })
}

/** An item as the legacy server stored it, without its made-up id; what is unknown stays beside it. */
function asStored({ mirror }: CollectionDefinition, item: Fields): Fields {
  const { id, created_at, updated_at, ...fields } = item
  const metadata: Fields = { updated_at }
  const document: Fields = { timestamp: created_at, metadata }
  for (const [field, value] of Object.entries(fields)) {
    const place = Object.hasOwn(mirror.metadata, field) ? mirror.metadata[field] : undefined
    if (field === mirror.text) document.text = value
    if (place !== undefined) metadata[place] = value
    else if (field === mirror.spread && isPlain(value)) Object.assign(metadata, { ...value, ...metadata })
    else if (field !== mirror.text) document[field] = value
  }
  return document
}

/** Names a document by what a list tells of it: nothing that is made up, and nothing that may be emptied. */
function contentOf(definition: CollectionDefinition, document: Fields): string | null {
  const understood = understand(definition, { sourceId: '', document })
  if (understood.kind === 'quarantined') return null
  const { id, updated_at, ...fields } = understood.item
  const { text, metadata } = definition.mirror
  const told = Object.entries(fields)
    .filter(([name]) => name === 'created_at' || name === text || Object.hasOwn(metadata, name))
    .filter(([, value]) => typeof value !== 'object')
  return hash([definition.name, told.sort(([a], [b]) => (a < b ? -1 : 1))])
}

function emptiedOf(item: Fields): string[] {
  return Object.entries(item)
    .filter(([, value]) => isPlain(value) && Object.keys(value).length === 0)
    .map(([name]) => name)
}

function hash(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex')
}
