import { readFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { eventItem, messageItem } from '../../scripts/opencode-items.js'
import { mirrorKinds, testServer } from '../support/server.js'

const fixtures = new URL('../fixtures/opencode/', import.meta.url)

async function recording(file: string): Promise<unknown[]> {
  const text = await readFile(new URL(file, fixtures), 'utf8')
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
}

const loads = [
  { collection: 'opencode_events', file: 'events.ndjson', convert: eventItem },
  { collection: 'session_messages', file: 'messages.ndjson', convert: messageItem },
]

describe.each(mirrorKinds)('what a real OpenCode server emitted, mirrored by %s', (kind) => {
  test.each(loads)('is equal in both stores: $collection', async ({ collection, file, convert }) => {
    const app = await testServer(kind)
    const items = (await recording(file)).map(convert)
    expect(items.length).toBeGreaterThan(100)

    const imported = await app.inject({
      method: 'POST',
      url: `/api/v1/${collection}/import`,
      headers: { 'content-type': 'application/x-ndjson' },
      payload: items.map((item) => JSON.stringify(item)).join('\n'),
    })
    expect(imported.json()).toMatchObject({
      success: true,
      data: { received: items.length, created: items.length, failed: 0 },
    })

    const byId = new Map(items.map((item) => [item.id, item]))
    const position = await positionOfAWrite(app, collection)
    for (const store of ['postgres', 'mirror']) {
      const listed = await app.inject({
        url: `/api/v1/${collection}?limit=1000&filter=${encodeURIComponent('{"probe":{"$exists":false}}')}`,
        headers: { 'x-dualstore-read-from': store, 'x-dualstore-wait-for': position },
      })
      const { data, pagination } = listed.json()
      expect(pagination.total).toBe(byId.size)
      expect(new Map(data.map((item: { id: string }) => [item.id, item]))).toEqual(byId)
    }
  })
})

/** The log position behind everything written so far. */
async function positionOfAWrite(
  app: Awaited<ReturnType<typeof testServer>>,
  collection: string,
): Promise<string> {
  const required = {
    opencode_events: { event_type: 'probe', event_data: {}, source: 'test' },
    session_messages: { session_id: 'probe', role: 'user', content: 'probe' },
  }
  const payload = { ...required[collection as keyof typeof required], probe: true }
  const written = await app.inject({ method: 'POST', url: `/api/v1/${collection}`, payload })
  return written.headers['x-dualstore-position'] as string
}
