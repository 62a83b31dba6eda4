import { MongoClient } from 'mongodb'
import { toLegacy } from '../../../src/server/mirror/legacy-shape.js'
import type { Item } from '../../../src/server/schemas/item.js'
import { shippedCollections } from '../../../src/server/schemas/shipped-collections.js'
import { bodies } from '../../support/http.js'
import { atEndOfFile } from '../../support/leaks.js'
import { type LegacyServer, startLegacyServer, type Variant } from '../../support/legacy-server/start.js'
import type { TestMongo } from '../../support/mongo.js'
import { listeningServer } from '../../support/server.js'

/** Of events more than lists of the simplified legacy server look at (defect 3). */
const counts: Readonly<Record<string, number>> = { opencode_events: 104 }

/** More of some documents than they need, so that objects and optional fields are there. */
const more: Readonly<Record<string, object>> = {
  session_messages: { metadata: { model: 'm', nested: { deep: [1, null] } } },
  agent_tasks: { input_data: { a: [1] }, output_data: {}, progress: 12.5, error_message: 'no' },
  opencode_events: { session_id: 'ses_1', severity: 'warning' },
}

/** Items of a collection, a second apart, every other one with all fields. */
export function legacyItems(collection: string): Item[] {
  return Array.from({ length: counts[collection] ?? 12 }, (_, n) => {
    const time = new Date(Date.UTC(2024, 4, 6, 7, 8, n, 500)).toISOString()
    return {
      id: `${collection.slice(0, 3)}_${n}`,
      ...(bodies[collection] as object),
      session_id: `ses_${n % 3}`,
      ...(collection === 'opencode_events' && { severity: 'info' }),
      ...(n % 2 === 0 && more[collection]),
      created_at: time,
      updated_at: time,
    }
  })
}

/** A dualstore on a loopback port that holds the same documents as the legacy servers. */
export async function filledDualstore(options: Parameters<typeof listeningServer>[0] = {}): Promise<string> {
  const { base } = await listeningServer(options)
  for (const { name } of shippedCollections) {
    const answer = await fetch(`${base}/api/v1/${name}/import`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson', connection: 'close' },
      body: legacyItems(name)
        .map((item) => JSON.stringify(item))
        .join('\n'),
    })
    if (answer.status !== 200) throw new Error(await answer.text())
    await answer.arrayBuffer()
  }
  return base
}

/** The stand-in with these documents in its MongoDB; ended after the file's last test. */
export async function filledLegacyServer(
  { uri, database }: TestMongo,
  variant: Variant,
  env: Readonly<Record<string, string>> = {},
): Promise<LegacyServer> {
  const client = new MongoClient(uri)
  const agent = env.AGENT_NAME ?? `fox_${variant}`
  for (const definition of shippedCollections) {
    const documents = legacyItems(definition.name).map((item) => {
      const { id, text, timestamp, metadata } = toLegacy(definition, { item, seq: 1, version: 1 })
      const vector = { vectorWriteSuccess: true, vectorWriteTimestamp: Date.parse(timestamp) }
      return { id, text, timestamp, metadata: { ...metadata, ...vector } }
    })
    await client.db(database).collection(`${agent}_${definition.name}`).insertMany(documents)
  }
  await client.close()
  const server = await startLegacyServer({
    variant,
    mongodbUri: uri,
    database,
    env: { AGENT_NAME: agent, SSE_HEARTBEAT_INTERVAL: '100', ...env },
  })
  atEndOfFile(async () => void (await server.stop()))
  return server
}
