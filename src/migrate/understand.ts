import type { CollectionDefinition } from '../server/schemas/collection.js'
import type { Item } from '../server/schemas/item.js'
import { ownFields } from '../server/services/item-validator.js'
import { isMirrored, mirroredItem } from '../server/services/legacy-documents.js'
import { parseTime, timeText } from '../server/services/time.js'
import type { Oddity, SourceDocument, Understood } from './sources/contract.js'
import { requiredId } from './understand/id.js'
import { exactText, type JsonFields, jsonOf } from './understand/json.js'
import { planOf } from './understand/plan.js'
import { LegacyReader } from './understand/reader.js'
import { Refusal } from './understand/refusal.js'

export { exactText }

/**
 * What a document of the legacy store means as an item of the collection, whoever wrote it and in whatever form
 * (legacy contract, sections 8 and 9). Pure: the same document always means the same. Never throws.
 *
 * Nothing of the document is lost. What the contract does not name stays in the item: in the field that is spread
 * (`metadata` of a session message), else as a field of its own; under `metadata_extra` there when its name is taken.
 * Left out are only `_id`, which `sourceId` keeps, null in place of a missing value, and the legacy store's own
 * bookkeeping: `vectorWrite…` and the copy of the timestamp under `metadata`.
 */
export function understand(definition: CollectionDefinition, source: SourceDocument): Understood {
  const { sourceId, document } = source
  const draft: Draft = { id: null, oddities: new Set() }
  try {
    if (source.unreadable !== undefined) throw new Refusal(source.unreadable)
    const reading = isMirrored(document)
      ? readMirrored(definition, document, draft)
      : readForeign(definition, source, draft)
    const { createdAt, updatedAt, fields } = reading
    const fault = planOf(definition).validate(fields, 'item')
    if (fault !== undefined) throw new Refusal(`${fault.field} ${fault.message}`)
    const times = { created_at: timeText(createdAt), updated_at: timeText(updatedAt) }
    const item = { id: draft.id, ...times, ...fields } as Item
    return { kind: 'item', sourceId, item, createdAt, updatedAt, oddities: [...draft.oddities] }
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    const { id, oddities } = draft
    const said = { id, reason: error.message, oddities: [...oddities] }
    return { kind: 'quarantined', sourceId, document: exactText(document), ...said }
  }
}

/** What is known of a document so far, for the case that the rest cannot be understood. */
interface Draft {
  id: string | null
  oddities: Set<Oddity>
}

interface Reading {
  /** Epoch milliseconds. */
  createdAt: number
  updatedAt: number
  /** The item without id and times. */
  fields: JsonFields
}

/** A document that dualstore wrote, into whose legacy fields another program may have put anything meanwhile. */
function readMirrored(
  definition: CollectionDefinition,
  document: SourceDocument['document'],
  draft: Draft,
): Reading {
  draft.oddities.add('written_by_dualstore')
  const item = jsonOf(mirroredItem(definition, document), () => draft.oddities.add('value_converted')) as Item
  draft.id = requiredId(item.id)
  const createdAt = parseTime(item.created_at)
  const updatedAt = parseTime(item.updated_at)
  if (createdAt === undefined) throw new Refusal('item.created_at must be an ISO 8601 time')
  if (updatedAt === undefined) throw new Refusal('item.updated_at must be an ISO 8601 time')
  return { createdAt, updatedAt, fields: ownFields(item) as JsonFields }
}

/** A document that the legacy server wrote, or a program beside it. */
function readForeign(definition: CollectionDefinition, source: SourceDocument, draft: Draft): Reading {
  const reader = new LegacyReader(definition, source, draft.oddities)
  const id = reader.id()
  draft.id = id
  const times = reader.times()
  return { ...times, fields: reader.fields({ id, ...times }) }
}
