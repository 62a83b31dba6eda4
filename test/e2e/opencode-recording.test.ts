import { describe, expect, test } from 'vitest'
import { eventItems, messageItems } from '../support/recording.js'
import { mirrorKinds, testServer } from '../support/server.js'

const loads = [
  { collection: 'opencode_events', load: eventItems },
  { collection: 'session_messages', load: messageItems },
]

describe.each(mirrorKinds)('what a real OpenCode server emitted, mirrored by %s', (kind) => {
  test.each(loads)('is equal in both stores: $collection', async ({ collection, load }) => {
    const app = await testServer(kind)
    const items = await load()
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
