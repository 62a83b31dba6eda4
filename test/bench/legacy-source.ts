import { BSON } from 'mongodb'
import type { Source } from '../../src/migrate/sources/contract.js'
import { BATCH, decoded } from '../../src/migrate/sources/mongo-read.js'
import { seededItem } from './documents.js'

const COLLECTION = 'session_messages'
/** Different documents; these come again and again under other ids. */
const TEMPLATES = 1000
/** Where the ids stand in the BSON of every document, because they come first. */
const OBJECT_ID_COUNTER = 17
const LAST_DIGITS_OF_ID = 47
const DIGITS = 9

/** A source of as many legacy messages as are asked for, and how many those are. */
export interface LegacySource extends Source {
  /** Documents that the next reading gives. */
  next: number
}

/**
 * A legacy database that costs as little as one can: BSON that was made beforehand and gets new ids, cut into documents
 * as MongoDB's driver does it, and decoded as the real source does.
 */
export function legacySource(): LegacySource {
  const templates = Array.from({ length: TEMPLATES }, (_, number) => BSON.serialize(legacyMessage(number)))
  let given = 0
  const batch = (size: number): Uint8Array[] =>
    Array.from({ length: size }, () => {
      const bytes = Buffer.from(templates[given % TEMPLATES] as Uint8Array)
      bytes.writeUInt32BE(given, OBJECT_ID_COUNTER)
      bytes.write(given.toString(36).padStart(DIGITS, '0'), LAST_DIGITS_OF_ID, 'latin1')
      given++
      return bytes
    })
  const source: LegacySource = {
    next: 0,
    kind: 'mongo',
    name: 'documents made beforehand',
    identity: 'documents made beforehand',
    losses: async () => [],
    collections: async () => [{ collection: COLLECTION, documents: source.next }],
    mark: async () => '',
    async *read() {
      for (let left = source.next; left > 0; left -= BATCH) {
        yield { documents: decoded(batch(Math.min(left, BATCH))), checkpoint: String(given) }
      }
    },
    async *follow() {},
    close: async () => {},
  }
  return source
}

/** What the legacy server stored of a message (legacy contract, section 8): about 520 bytes of BSON. */
function legacyMessage(number: number) {
  const { id, created_at, updated_at, session_id, role, content, metadata } = seededItem(number)
  const vectorWriteTimestamp = Date.parse(created_at)
  return {
    _id: new BSON.ObjectId('0'.repeat(24)),
    id,
    text: content,
    timestamp: created_at,
    metadata: {
      session_id,
      role,
      ...metadata,
      updated_at,
      timestamp: created_at,
      vectorWriteSuccess: true,
      vectorWriteTimestamp,
    },
  }
}
