// What the legacy server did with its MongoDB, defects included (legacy contract, sections 8 and 9).
import { setTimeout as delay } from 'node:timers/promises'
import { MongoClient } from 'mongodb'
import { collections, emptied, newId, toDocument, toItem } from './documents.mjs'

const NEWEST = { a: 1000, b: 1000 }
const NEWEST_EVENTS = { a: 1000, b: 100 }

/**
 * @param {{ uri: string, database: string, agentName: string, variant: 'a' | 'b', vectorBatchMs: number }} options
 */
export async function openStore({ uri, database, agentName, variant, vectorBatchMs }) {
  // One connection, pinged twice before each operation (defect 9).
  const client = new MongoClient(uri, { maxPoolSize: 1, serverSelectionTimeoutMS: 5000 })
  await client.connect()
  const db = client.db(database)
  /** @param {string} name */
  const stored = async (name) => {
    await db.command({ ping: 1 })
    await db.command({ ping: 1 })
    return db.collection(`${agentName}_${name}`)
  }
  /** @param {string} name @param {number} limit */
  const newest = async (name, limit) =>
    (await stored(name)).find({}, { sort: { timestamp: -1 }, limit }).toArray()
  const definitionOf = (/** @type {string} */ name) => /** @type {any} */ (collections)[name]

  /** @param {string} name @param {any} item */
  const insert = async (name, item) => {
    await (await stored(name)).insertOne(toDocument(definitionOf(name), item))
    // A write waited for its vector batch (defect 9).
    if (vectorBatchMs > 0) await delay(vectorBatchMs)
  }
  /** Of several documents with one id, the oldest (defect 1). @param {string} name @param {string} id */
  const oldest = async (name, id) => (await stored(name)).findOne({ id }, { sort: { _id: 1 } })

  return {
    /** A page of the newest documents, chosen, sorted and counted among these alone (defect 3). */
    async list(/** @type {string} */ name, /** @type {any} */ query) {
      const definition = definitionOf(name)
      const bound = name === 'opencode_events' ? NEWEST_EVENTS[variant] : NEWEST[variant]
      // A failed read was an empty list (defect 5).
      const documents = await newest(name, bound).catch(() => [])
      const now = Date.now()
      const items = documents.map((document, n) => {
        const item = toItem(definition, document, variant)
        // Made up for each request (defect 2).
        return { ...item, id: `${definition.prefix}_${item.session_id ?? 'unknown'}_${n}_${now}` }
      })
      const chosen = items.filter((item) => passes(item, query)).sort(order(query))
      const page = chosen.slice(query.offset, query.offset + query.limit)
      return {
        // One version let nothing of a message through (defect 4).
        items: page.map((item) =>
          variant === 'b' && name === 'session_messages' ? {} : emptied(definition, item),
        ),
        total: chosen.length,
      }
    },

    async read(/** @type {string} */ name, /** @type {string} */ id) {
      const document = await oldest(name, id)
      const definition = definitionOf(name)
      return document === null ? undefined : emptied(definition, toItem(definition, document, variant))
    },

    /** Answers what the client sent over what was stored (defect 6). */
    async create(/** @type {string} */ name, /** @type {any} */ body) {
      const definition = definitionOf(name)
      requireValid(definition, body)
      const now = new Date().toISOString()
      const own = { id: newId(definition.prefix), created_at: now, updated_at: now }
      await insert(name, { ...body, ...own })
      return emptied(definition, { ...own, ...body })
    },

    /** A second document with the same id (defect 1). No route led here. */
    async update(/** @type {string} */ name, /** @type {string} */ id, /** @type {any} */ changes) {
      const document = await oldest(name, id)
      if (document === null) return false
      const item = toItem(definitionOf(name), document, variant)
      await insert(name, { ...item, ...changes, updated_at: new Date().toISOString() })
      return true
    },

    /** The ten newest documents as they are stored, without Mongo's own id. */
    async raw(/** @type {string} */ name) {
      const documents = await newest(name, 10)
      return documents.map(({ id, text, metadata, timestamp }) => ({ id, text, metadata, timestamp }))
    },

    close: () => client.close(),
  }
}

/** @param {any} definition @param {any} body */
function requireValid({ required, enums, objects }, body) {
  for (const field of required) if (body?.[field] === undefined) throw new Error(`${field} is required`)
  for (const [field, values] of Object.entries(enums))
    if (body[field] !== undefined && !values.includes(body[field])) throw new Error(`${field} is not allowed`)
  for (const field of objects)
    if (body[field] !== undefined && typeof body[field] !== 'object') throw new Error(`${field} is no object`)
  if (body.progress !== undefined && !(body.progress >= 0 && body.progress <= 100))
    throw new Error('progress is out of range')
}

/** @param {any} item @param {any} query */
function passes(item, { session_id, created_after, created_before }) {
  const created = Date.parse(item.created_at)
  return (
    (session_id === undefined || item.session_id === session_id) &&
    (created_after === undefined || created >= Date.parse(created_after)) &&
    (created_before === undefined || created <= Date.parse(created_before))
  )
}

/** @param {any} query */
function order({ sort_by, sort_order }) {
  const sign = sort_order === 'asc' ? 1 : -1
  return (/** @type {any} */ left, /** @type {any} */ right) => {
    const [a, b] = [left[sort_by] ?? '', right[sort_by] ?? '']
    return a < b ? -sign : a > b ? sign : 0
  }
}
