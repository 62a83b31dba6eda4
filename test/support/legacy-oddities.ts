import { BSON, type Document } from 'mongodb'
import type { CollectionDefinition } from '../../src/server/schemas/collection.js'
import type { Item, Json } from '../../src/server/schemas/item.js'
import type { Random } from './random.js'

const { Binary, Decimal128, Double, Long, ObjectId, Timestamp } = BSON

/** A document that is being made, and beside it what it means. */
export interface Draft {
  definition: CollectionDefinition
  /** The document, in the shape of the contract until an oddity changes it. */
  document: Document
  /** Its metadata. */
  metadata: Document
  item: Item
  /** The document has no id; the item's follows from `_id`. */
  withoutId: boolean
  /** It cannot be taken. */
  refused: boolean
}

/** Makes a document odd, and its item what that means; false when this kind does not go with the document. */
type Oddness = (draft: Draft, random: Random) => unknown

const ms = (text: string) => Date.parse(text)
const iso = (at: number) => new Date(at).toISOString()
const isOf = ({ definition }: Draft, name: string) => definition.name === name
const sessionPlace = (draft: Draft) => (isOf(draft, 'agent_tasks') ? 'sessionId' : 'session_id')

/** Where what nobody declared goes in the item. */
function others(draft: Draft): { [field: string]: Json } {
  if (draft.definition.mirror.spread === null) return draft.item
  const metadata = (draft.item.metadata ?? {}) as { [field: string]: Json }
  draft.item.metadata = metadata
  return metadata
}

/** Of each group at most one kind is chosen, so that the kinds of a document do not undo each other's work. */
const oddities = [
  {
    mirrored: () => {},
  },
  {
    id_missing: (draft) => {
      delete draft.document.id
      draft.withoutId = true
    },
    id_empty: (draft) => {
      draft.document.id = ''
      draft.withoutId = true
    },
    id_number: (draft, random) => {
      draft.document.id = random.below(2 ** 40) + 0.5
      draft.item.id = String(draft.document.id)
    },
    id_long: (draft, random) => {
      draft.document.id = Long.fromString(`9${random.below(2 ** 31)}000000000`.slice(0, 18))
      draft.item.id = String(draft.document.id)
    },
    id_object_id: (draft, random) => {
      const hex = Array.from({ length: 24 }, () => random.below(16).toString(16)).join('')
      draft.document.id = new ObjectId(hex)
      draft.item.id = hex
    },
    id_unusable: (draft, random) => {
      draft.document.id = random.pick([
        'batch',
        '..',
        'line\nbreak',
        'nul\0',
        'x'.repeat(600),
        true,
        { a: 1 },
      ])
      draft.refused = true
    },
  },
  {
    time_number: createdAs((at) => at),
    time_numeric_text: createdAs(String),
    time_date: createdAs((at) => new Date(at)),
    time_long: createdAs((at) => Long.fromNumber(at)),
    time_double: createdAs((at) => new Double(at)),
    time_bson_timestamp: (draft) => {
      const seconds = Math.floor(ms(draft.item.created_at) / 1000)
      draft.document.timestamp = new Timestamp({ t: seconds, i: 1 })
      draft.item.created_at = iso(seconds * 1000)
    },
    time_other_key: (draft, random) => {
      draft.document[random.pick(['createdAt', 'created_at', 'timeStamp'])] = draft.document.timestamp
      delete draft.document.timestamp
    },
    time_in_metadata: (draft) => {
      delete draft.document.timestamp
    },
    time_missing: (draft) => {
      delete draft.document.timestamp
      delete draft.metadata.timestamp
      const { _id } = draft.document
      if (_id instanceof ObjectId) draft.item.created_at = iso(_id.getTimestamp().getTime())
      else draft.refused = true
    },
  },
  {
    updated_missing: (draft) => {
      delete draft.metadata.updated_at
      draft.item.updated_at = draft.item.created_at
    },
    updated_date: (draft) => {
      draft.metadata.updated_at = new Date(draft.item.updated_at)
    },
    updated_other_key: (draft) => {
      delete draft.metadata.updated_at
      draft.document.updatedAt = ms(draft.item.updated_at)
    },
  },
  {
    nulls: (draft) => {
      const places = ['progress', 'inputData', 'outputData', 'errorMessage', 'severity']
      for (const [field, place] of Object.entries(draft.definition.mirror.metadata)) {
        if (!places.includes(place)) continue
        draft.metadata[place] = null
        if (place === 'severity') draft.item.severity = 'info'
        else delete draft.item[field]
      }
    },
  },
  {
    names_other: (draft) => rename(draft, draft.metadata),
    names_on_top: (draft) => rename(draft, draft.document),
    session_in_text: (draft) => {
      const { metadata, document, item } = draft
      delete metadata[sessionPlace(draft)]
      document.text = `go on with ${item.session_id}, please`
      if (isOf(draft, 'session_messages')) item.content = document.text
      else item.text = document.text
    },
    task_in_text: (draft, random) => {
      if (!isOf(draft, 'agent_tasks')) return false
      const name = `job ${random.letters(5)}`
      const [text, meant] = random.pick([
        [`Hello.\nTASK: ${name}\nDo it well.`, name],
        [`You are a ${name} SPECIALIST. Begin.`, `${name} SPECIALIST`],
        [`UUID: ${name.slice(4)} and nothing else`, name.slice(4)],
      ] as const)
      delete draft.metadata.taskType
      Object.assign(draft.document, { text })
      Object.assign(draft.item, { text, task_type: meant })
    },
    raw_event: (draft) => {
      const { document, metadata, item } = draft
      const properties = { sessionID: item.session_id, info: { agentId: item.agent_id, version: '1.0.0' } }
      const rawEvent = JSON.stringify({ type: item.event_type ?? 'message.updated', properties })
      delete metadata[sessionPlace(draft)]
      delete metadata.agentId
      if (isOf(draft, 'opencode_events')) {
        delete metadata.event_type
        delete metadata.event_data
        delete metadata.source
        document.text = ''
        Object.assign(item, { event_data: JSON.parse(JSON.stringify(properties)), source: 'opencode' })
      }
      metadata.rawEvent = rawEvent
      others(draft).rawEvent = rawEvent
    },
    defaults: (draft) => {
      for (const [field, [place, value]] of Object.entries(defaults[draft.definition.name] ?? {})) {
        delete draft.metadata[place]
        draft.item[field] = value
      }
      if (isOf(draft, 'agent_tasks')) draft.document.text = ''
    },
    text_missing: (draft) => {
      delete draft.document.text
      if (isOf(draft, 'session_messages')) draft.item.content = ''
    },
    text_empty: (draft) => {
      draft.document.text = ''
      if (isOf(draft, 'session_messages')) draft.item.content = ''
    },
    text_differs: (draft) => {
      if (isOf(draft, 'session_messages')) return false
      draft.document.text = 'what the agent was told'
      draft.item.text = draft.document.text
    },
  },
  {
    extra_in_metadata: (draft) => {
      draft.metadata.traceId = 'abc'
      others(draft).traceId = 'abc'
    },
    extra_on_top: (draft) => {
      draft.document.tags = ['a', 'b']
      others(draft).tags = ['a', 'b']
    },
    extra_that_clashes: (draft) => {
      Object.assign(draft.metadata, { shared: 1 })
      Object.assign(draft.document, { shared: 2 })
      Object.assign(others(draft), { shared: 1, metadata_extra: { shared: 2 } })
    },
    converted: (draft) => {
      Object.assign(draft.metadata, {
        when: new Date(0),
        large: Long.fromString('9007199254740993'),
        price: Decimal128.fromString('19.99'),
        owner: new ObjectId('0123456789abcdef01234567'),
        bytes: new Binary(Buffer.from('bytes')),
        odd: { deep: [Number.NaN] },
      })
      Object.assign(others(draft), {
        when: '1970-01-01T00:00:00.000Z',
        large: '9007199254740993',
        price: 19.99,
        owner: '0123456789abcdef01234567',
        bytes: 'Ynl0ZXM=',
        odd: { deep: ['NaN'] },
      })
    },
  },
  {
    misfit: (draft) => {
      const wrong = { session_messages: { role: 'tool' }, agent_tasks: { progress: 250 } }
      Object.assign(
        draft.metadata,
        wrong[draft.definition.name as keyof typeof wrong] ?? { severity: 'loud' },
      )
      draft.refused = true
    },
    unstorable_text: (draft) => {
      draft.metadata.note = 'nul\0'
      draft.refused = true
    },
  },
] satisfies Record<string, Oddness>[]

type KeyOf<T> = T extends unknown ? keyof T : never
/** Ways in which a document is not as the contract says, or not as one would think. */
export type OddKind = KeyOf<(typeof oddities)[number]>
/** The groups of kinds. */
export const oddGroups = oddities as readonly Readonly<Partial<Record<OddKind, Oddness>>>[]

/** Fields that have a value when nothing is found, with their place and that value (legacy contract, section 8). */
const defaults: Readonly<Record<string, Readonly<Record<string, readonly [string, Json]>>>> = {
  session_messages: { role: ['role', 'user'] },
  agent_tasks: {
    agent_id: ['agentId', 'unknown'],
    task_type: ['taskType', 'general'],
    status: ['status', 'pending'],
  },
  opencode_events: { source: ['source', 'opencode'], severity: ['severity', 'info'] },
}

function createdAs(stored: (at: number) => unknown): Oddness {
  return (draft) => {
    draft.document.timestamp = stored(ms(draft.item.created_at))
  }
}

/** Moves every field of the item to its name in the other spelling, in `metadata` or beside it. */
function rename(draft: Draft, target: Document): void {
  for (const [field, place] of Object.entries(draft.definition.mirror.metadata)) {
    if (!Object.hasOwn(draft.metadata, place)) continue
    const camel = field.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
    const value = draft.metadata[place]
    delete draft.metadata[place]
    target[place === field ? camel : field] = value
  }
}
