import { createHash } from 'node:crypto'
import { BSON, type Document, MongoClient } from 'mongodb'
import { toLegacy } from '../../src/server/mirror/legacy-shape.js'
import type { CollectionDefinition } from '../../src/server/schemas/collection.js'
import type { Item, Json } from '../../src/server/schemas/item.js'
import { shippedCollections } from '../../src/server/schemas/shipped-collections.js'
import { type Draft, type OddKind, oddGroups } from './legacy-oddities.js'
import { type Random, randomOf } from './random.js'

const { EJSON, ObjectId } = BSON

/** What can be odd about a document; a duplicate has the id of an earlier one. */
export type Kind = OddKind | 'duplicate'
/** Share of documents with each kind of oddity, 0 to 1. */
export type Rates = Readonly<Record<Kind, number>>

export interface LegacyDatabaseOptions {
  seed: number
  /** Documents of each collection. */
  documents: number
  /** Those to make; the three of the legacy server by default. */
  collections?: readonly string[]
  /** Of what is named here; 2 % of everything else, 10 % of duplicates. */
  rates?: Partial<Rates>
}

/** One document and what is to become of it. */
export interface Generated {
  document: Document & { _id: unknown }
  /** What it means; null when it cannot be taken. */
  item: Item | null
  /** What is odd about it. */
  kinds: readonly Kind[]
}

/** What a migration into empty stores must report: read = created + merged + quarantined. */
export interface Expected {
  read: number
  /** Ids. */
  created: number
  /** Documents that are not the newest of their id. */
  merged: number
  quarantined: number
  /** The document that must win, by id: the newest updated_at, and of equal ones the last in the order of `_id`. */
  winners: Map<string, Item>
}

/** A legacy database that is the same for the same options. */
export interface LegacyDatabase {
  collections: readonly string[]
  /** In the order in which they are made, which is not that of `_id`; nothing is kept in memory. */
  documents(collection: string): Generator<Generated>
  /** Holds the winners in memory: about 1 KB for each id. */
  expected(collection: string): Expected
}

const DEFAULT_RATE = 0.02
const DEFAULT_DUPLICATES = 0.1
const FIRST_SECOND = Date.parse('2025-01-01T00:00:00Z') / 1000
const HOUR = 3_600_000

export function legacyDatabase(options: LegacyDatabaseOptions): LegacyDatabase {
  const collections = options.collections ?? shippedCollections.map(({ name }) => name)
  const rate = (kind: Kind) =>
    options.rates?.[kind] ?? (kind === 'duplicate' ? DEFAULT_DUPLICATES : DEFAULT_RATE)

  const documents = function* (collection: string): Generator<Generated> {
    const definition = definitionOf(collection)
    for (let index = 0; index < options.documents; index++) {
      yield generate(definition, index, options.seed, rate)
    }
  }
  return {
    collections,
    documents,
    expected: (collection) => expectedOf(documents(collection)),
  }
}

/** Writes a legacy database into a MongoDB under `<agentName>_<collection>`, some thousand documents at once. */
export async function writeLegacyDatabase(
  legacy: LegacyDatabase,
  { uri, database, agentName = 'duck' }: { uri: string; database: string; agentName?: string },
): Promise<void> {
  const client = new MongoClient(uri)
  try {
    for (const name of legacy.collections) {
      const collection = client.db(database).collection(`${agentName}_${name}`)
      // One batch is made while another one is written.
      let writing: Promise<unknown> = Promise.resolve()
      let batch: Document[] = []
      const write = async () => {
        await writing
        writing = collection.insertMany(batch, { ordered: false })
        writing.catch(() => {})
        batch = []
      }
      for (const { document } of legacy.documents(name)) {
        if (batch.push(document) === BATCH) await write()
      }
      if (batch.length > 0) await write()
      await writing
    }
  } finally {
    await client.close()
  }
}

const BATCH = 5000

/** What must come of these documents, in whatever order they are given. */
export function expectedOf(documents: Iterable<Generated>): Expected {
  const expected: Expected = { read: 0, created: 0, merged: 0, quarantined: 0, winners: new Map() }
  const places = new Map<string, unknown>()
  for (const { document, item } of documents) {
    expected.read++
    if (item === null) {
      expected.quarantined++
      continue
    }
    const before = expected.winners.get(item.id)
    if (before === undefined) expected.created++
    else expected.merged++
    if (before === undefined || wins(item, document._id, before, places.get(item.id))) {
      expected.winners.set(item.id, item)
      places.set(item.id, document._id)
    }
  }
  return expected
}

function wins(item: Item, _id: unknown, before: Item, beforeId: unknown): boolean {
  if (item.updated_at !== before.updated_at) return item.updated_at > before.updated_at
  return compareIds(_id, beforeId) > 0
}

/** The order of MongoDB among the types that are made here: numbers, texts, ObjectIds. */
export function compareIds(a: unknown, b: unknown): number {
  const rank = (value: unknown) => (typeof value === 'number' ? 0 : typeof value === 'string' ? 1 : 2)
  if (rank(a) !== rank(b)) return rank(a) - rank(b)
  if (typeof a === 'number') return a - (b as number)
  return Buffer.compare(Buffer.from(textOf(a)), Buffer.from(textOf(b)))
}

function textOf(id: unknown): string {
  return id instanceof ObjectId ? id.toHexString() : String(id)
}

function definitionOf(name: string): CollectionDefinition {
  const definition = shippedCollections.find((shipped) => shipped.name === name)
  if (definition === undefined) throw new Error(`the legacy server has no collection ${name}`)
  return definition
}

type RateOf = (kind: Kind) => number

/** The document at an index; it depends on nothing but the seed and the index. */
function generate(definition: CollectionDefinition, index: number, seed: number, rate: RateOf): Generated {
  const random = randomOf(`${seed} ${definition.name} ${index}`)
  const first = firstOfId(definition, index, seed, rate)
  const draft = plainDraft(definition, index, random)
  const { document, item } = draft
  const kinds: Kind[] = []
  document._id = ownId(definition, index, seed, random)
  if (first !== index) {
    kinds.push('duplicate')
    const earlier = generate(definition, first, seed, rate)
    // Of an id that cannot be taken there is only one document.
    if (earlier.item !== null) become(draft, earlier.item, random)
  }
  for (const group of oddGroups) {
    const kind = chosen(group, random, rate)
    if (kind === undefined || (first !== index && FIRST_ONLY.test(kind))) continue
    if (group[kind]?.(draft, random) === false) continue
    kinds.push(kind)
    if (kind === 'mirrored') {
      const mirrored = toLegacy(definition, { item, seq: index + 1, version: 1 })
      return { document: mirrored, item, kinds }
    }
  }
  if (draft.withoutId) item.id = derivedId(definition, document._id)
  return { document: document as Generated['document'], item: draft.refused ? null : item, kinds }
}

/** Kinds that change the id, or need an `_id` of their own. */
const FIRST_ONLY = /^(id_|mirrored)/

/** Makes a draft a later writing of an item, which may be older, as old or newer by its times. */
function become(draft: Draft, earlier: Item, random: Random): void {
  const hours = random.pick([-2, 0, 0, 1, 5])
  const updated = new Date(Date.parse(earlier.updated_at) + hours * HOUR).toISOString()
  draft.item.id = earlier.id
  draft.document.id = earlier.id
  draft.item.updated_at = updated
  draft.metadata.updated_at = updated
}

/** The index of the first document with the id of the one at `index`. */
function firstOfId(definition: CollectionDefinition, index: number, seed: number, rate: RateOf): number {
  const random = randomOf(`${seed} ${definition.name} ${index} duplicate`)
  if (index === 0 || random.next() >= rate('duplicate')) return index
  return firstOfId(definition, random.below(index), seed, rate)
}

function chosen(group: (typeof oddGroups)[number], random: Random, rate: RateOf): OddKind | undefined {
  let point = random.next()
  for (const kind of Object.keys(group) as OddKind[]) {
    point -= rate(kind)
    if (point < 0) return kind
  }
  return undefined
}

/** Mostly ObjectIds in the order of the index, as drivers make them; some texts and numbers. */
function ownId(definition: CollectionDefinition, index: number, seed: number, random: Random): unknown {
  const sort = random.next()
  if (sort < 0.02) return `${definition.id_prefix}-${index}`
  if (sort < 0.04) return index
  const hex = (value: number, digits: number) => (value >>> 0).toString(16).padStart(digits, '0')
  const second = FIRST_SECOND + Math.floor(index / 1000)
  return new ObjectId(`${hex(second, 8)}${hex(seed, 8)}00${hex(index % 2 ** 24, 6)}`)
}

/** The id of an item whose document has none, as docs/migration.md promises it. */
function derivedId({ id_prefix }: CollectionDefinition, _id: unknown): string {
  if (_id instanceof ObjectId) return `${id_prefix}_${_id.toHexString()}`
  if (typeof _id === 'string') return _id
  const text = EJSON.stringify(_id, { relaxed: false })
  return `${id_prefix}_${createHash('sha256').update(text).digest('hex').slice(0, 32)}`
}

/** A document exactly as the contract says, and its item. */
function plainDraft(definition: CollectionDefinition, index: number, random: Random): Draft {
  const created = FIRST_SECOND * 1000 + index * 1000 + random.below(1000)
  const item: Item = {
    id: `${definition.id_prefix}_${created}_${random.letters(9)}`,
    created_at: new Date(created).toISOString(),
    updated_at: new Date(created + random.below(3) * HOUR).toISOString(),
    ...plainFields(definition.name, random),
  }
  const { dualstore, ...document } = toLegacy(definition, { item, seq: 0, version: 0 }) as Document
  const vector = { vectorWriteSuccess: random.next() < 0.9, vectorWriteTimestamp: created + 5 }
  const metadata = { ...document.metadata, timestamp: created, ...vector }
  return { definition, document: { ...document, metadata }, metadata, item, withoutId: false, refused: false }
}

function plainFields(collection: string, random: Random): { [field: string]: Json } {
  const session_id = `ses_${random.letters(20)}`
  if (collection === 'session_messages') {
    const metadata = { model: random.pick(['small', 'large']), tokens: random.below(9000) }
    return {
      session_id,
      role: random.pick(['user', 'assistant', 'system']),
      content: `message ${random.letters(40)} `.repeat(1 + random.below(6)),
      ...(random.next() < 0.5 && { metadata }),
    }
  }
  if (collection === 'agent_tasks') {
    return {
      session_id,
      agent_id: `agent-${random.below(50)}`,
      task_type: random.pick(['build', 'review', 'deploy']),
      status: random.pick(['pending', 'running', 'completed', 'failed']),
      progress: random.below(101),
      input_data: { file: random.letters(12), lines: [random.below(100), random.below(1000)] },
      ...(random.next() < 0.5 && { output_data: { ok: true, note: random.letters(30) } }),
      ...(random.next() < 0.2 && { error_message: 'it failed' }),
    }
  }
  return {
    event_type: random.pick(['session.idle', 'message.updated', 'session.error']),
    event_data: { info: { version: '1.0.0', part: random.letters(60) }, n: random.below(1000) },
    source: random.pick(['opencode', 'cli']),
    session_id,
    severity: random.pick(['info', 'warning', 'error', 'debug', 'critical']),
  }
}
