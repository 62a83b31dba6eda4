import { isDeepStrictEqual } from 'node:util'
import { BSON } from 'mongodb'
import type { CollectionDefinition } from '../../server/schemas/collection.js'
import type { Json } from '../../server/schemas/item.js'
import type { Oddity, SourceDocument } from '../sources/contract.js'
import { derivedId, idText, requiredId } from './id.js'
import { type Fields, isPlain, type JsonFields, jsonOf, put } from './json.js'
import { Part } from './part.js'
import { type FieldPlan, type Plan, planOf } from './plan.js'
import { type RawEvent, readRawEvent } from './raw-event.js'
import { Refusal } from './refusal.js'
import { readTime } from './time.js'

/** Where a time is looked for, the contract's place first. */
type Place = readonly ['document' | 'metadata', string]
const CREATED: readonly Place[] = [
  ['document', 'timestamp'],
  ['document', 'createdAt'],
  ['document', 'created_at'],
  ['document', 'timeStamp'],
  ['metadata', 'timestamp'],
  ['metadata', 'createdAt'],
  ['metadata', 'created_at'],
  ['metadata', 'timeStamp'],
]
const UPDATED: readonly Place[] = [
  ['metadata', 'updated_at'],
  ['metadata', 'updatedAt'],
  ['document', 'updated_at'],
  ['document', 'updatedAt'],
]
const RAW_EVENT = 'rawEvent'
/** Holds what stands in the document under a name that the item has another value for. */
const CLASHES = 'metadata_extra'

/** The times of a document, epoch milliseconds. */
export interface Times {
  createdAt: number
  updatedAt: number
}

/** What the server's fields of the item hold. */
export interface Known extends Times {
  id: string
}

/** Reads one document in the legacy shape: first its id, then its times, then its fields. */
export class LegacyReader {
  readonly #definition: CollectionDefinition
  readonly #plan: Plan
  readonly #source: SourceDocument
  readonly #oddities: Set<Oddity>
  readonly #parts: { document: Part; metadata: Part }

  constructor(definition: CollectionDefinition, source: SourceDocument, oddities: Set<Oddity>) {
    this.#definition = definition
    this.#plan = planOf(definition)
    this.#source = source
    this.#oddities = oddities
    const document = new Part(source.document)
    document.take('_id')
    const metadata = document.peek('metadata')
    // A `metadata` of another kind is a field like any that nobody knows.
    if (isPlain(metadata)) document.take('metadata')
    this.#parts = { document, metadata: new Part(isPlain(metadata) ? metadata : {}) }
  }

  /** @throws Refusal when it has one that dualstore cannot keep. */
  id(): string {
    const given = this.#parts.document.take('id')
    if (given === undefined || given === '') {
      this.#oddities.add('missing_id')
      const { document, sourceId } = this.#source
      return derivedId(this.#definition.id_prefix, document._id, sourceId)
    }
    if (typeof given !== 'string') this.#oddities.add('other_id_type')
    const text = idText(given)
    if (text === undefined) throw new Refusal('id must be text, a number, an ObjectId or a UUID')
    return requiredId(text)
  }

  /** @throws Refusal when nothing tells when the document was made. */
  times(): Times {
    const createdAt = this.#time(CREATED) ?? this.#timeOfObjectId()
    const updatedAt = this.#time(UPDATED)
    if (updatedAt === undefined) this.#oddities.add('default_used')
    return { createdAt, updatedAt: updatedAt ?? createdAt }
  }

  /** The item without id and times. */
  fields(known: Known): JsonFields {
    const fields: JsonFields = {}
    const { textField } = this.#plan
    const text = this.#text()
    if (textField !== null) put(fields, textField, this.#content(textField, text))
    for (const plan of this.#plan.fields) {
      const value = this.#value(plan, text)
      if (value !== undefined) put(fields, plan.field, value)
    }
    this.#addRest(fields, known)
    return fields
  }

  #time(places: readonly Place[]): number | undefined {
    for (const place of places) {
      const part = this.#parts[place[0]]
      const value = part.peek(place[1])
      const found = readTime(value)
      // A null is taken, because it says the same as nothing.
      if (value === undefined) part.take(place[1])
      if (found === undefined) continue
      part.take(place[1])
      if (found.oddity !== null) this.#oddities.add(found.oddity)
      if (place !== places[0]) this.#oddities.add('timestamp_under_other_key')
      return found.ms
    }
    return undefined
  }

  #timeOfObjectId(): number {
    this.#oddities.add('timestamp_missing')
    const { _id } = this.#source.document
    if (_id instanceof BSON.ObjectId) return _id.getTimestamp().getTime()
    throw new Refusal('timestamp is missing or no time, and _id is no ObjectId, which would tell one')
  }

  /** The document's text where it is one. */
  #text(): string | undefined {
    const text = this.#parts.document.peek('text')
    if (typeof text !== 'string') this.#oddities.add('missing_text')
    else if (text === '') this.#oddities.add('empty_text')
    return typeof text === 'string' ? text : undefined
  }

  /** What the text field of an item says: the text, or a field of its name when there is none. */
  #content(field: string, text: string | undefined): Json {
    const { document, metadata } = this.#parts
    const given = document.take('text')
    if (text !== undefined && text !== '') return text
    const other = metadata.take(field) ?? document.take(field)
    if (other !== undefined) this.#oddities.add('other_field_name')
    return this.#json(other ?? given ?? '')
  }

  #value(plan: FieldPlan, text: string | undefined): Json | undefined {
    const named = this.#parts.metadata.take(plan.place) ?? this.#underOtherName(plan)
    if (named === undefined) return this.#derived(plan, text)
    if (typeof named === 'string' || !plan.isId) return this.#json(named)
    const id = idText(named)
    if (id === undefined) return this.#json(named)
    this.#oddities.add('other_id_type')
    return id
  }

  #underOtherName({ names, topNames }: FieldPlan): unknown {
    const { document, metadata } = this.#parts
    for (const [part, those] of [[metadata, names] as const, [document, topNames] as const]) {
      for (const name of those) {
        const value = part.take(name)
        if (value === undefined) continue
        this.#oddities.add('other_field_name')
        return value
      }
    }
    return undefined
  }

  /** What other parts of the document say about a field that it does not name. */
  #derived({ fromEvent, fromText, fallback }: FieldPlan, text: string | undefined): Json | undefined {
    const event = this.#event()
    const ofEvent = event && fromEvent?.(event)
    if (ofEvent !== undefined) return this.#json(ofEvent)
    const ofText = text === undefined ? undefined : fromText?.(text)
    if (ofText !== undefined) {
      this.#oddities.add('value_from_text')
      return ofText
    }
    if (fallback !== undefined) this.#oddities.add('default_used')
    return fallback
  }

  #rawEvent: RawEvent | false | undefined

  #event(): RawEvent | undefined {
    if (this.#rawEvent === undefined) {
      const { document, metadata } = this.#parts
      this.#rawEvent = readRawEvent(metadata.peek(RAW_EVENT) ?? document.peek(RAW_EVENT)) ?? false
      if (this.#rawEvent !== false) this.#oddities.add('raw_event')
    }
    return this.#rawEvent || undefined
  }

  /** Adds what no field was read from. */
  #addRest(fields: JsonFields, { id, createdAt, updatedAt }: Known): void {
    const { spread, text } = this.#definition.mirror
    const { document, metadata } = this.#parts
    const given = document.peek('text')
    if (given === undefined || given === '' || (text !== null && fields[text] === given))
      document.take('text')

    const server: Fields = { id, created_at: createdAt, updated_at: updatedAt }
    const rest: JsonFields = spread === null ? fields : {}
    const clashes: JsonFields = {}
    const add = (name: string, found: unknown) => {
      const value = this.#json(found)
      const isServers = spread === null && Object.hasOwn(server, name)
      if (!isServers && !Object.hasOwn(rest, name)) return put(rest, name, value)
      const same = isServers
        ? (readTime(found)?.ms ?? value) === server[name]
        : isDeepStrictEqual(rest[name], value)
      if (!same) put(clashes, freeName(clashes, name), value)
    }
    for (const name of metadata.rest()) {
      const value = metadata.get(name)
      if (isBookkeeping(name, value)) continue
      if (spread === null && name !== RAW_EVENT) this.#oddities.add('extra_field')
      add(name, value)
    }
    for (const name of document.rest()) {
      if (name !== RAW_EVENT) this.#oddities.add('extra_field')
      add(name, document.get(name))
    }
    if (Object.keys(clashes).length > 0) put(rest, freeName(rest, CLASHES), clashes)
    if (spread !== null && Object.keys(rest).length > 0) put(fields, spread, rest)
  }

  #json(value: unknown): Json {
    return jsonOf(value, () => this.#oddities.add('value_converted'))
  }
}

/** What the legacy store noted about its vector copy, and its copy of the timestamp. */
function isBookkeeping(name: string, value: unknown): boolean {
  return (
    name.startsWith('vectorWrite') ||
    (name === 'timestamp' && (value === null || readTime(value) !== undefined))
  )
}

function freeName(object: JsonFields, name: string): string {
  let free = name
  while (Object.hasOwn(object, free)) free += '_'
  return free
}
