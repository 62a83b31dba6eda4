import { EventSource } from 'eventsource'
import { createEventSource } from 'eventsource-client'
import { expect, test } from 'vitest'
import { testDatabase } from '../support/database.js'
import { expectToResume, type Follower, type Received } from './support/streams/resume-scenario.js'

const NAMES = ['connection', 'ready', 'reset', 'insert', 'update', 'delete', 'heartbeat', 'close', 'message']

/** The npm package eventsource: the browser's interface on Node. */
async function withEventSource(url: string): Promise<Follower> {
  const received: Received[] = []
  const source = new EventSource(url)
  for (const name of NAMES)
    source.addEventListener(name, ({ data, lastEventId }: MessageEvent) =>
      received.push({ event: name, id: lastEventId, data: data as string }),
    )
  return { received: async () => received, close: async () => source.close() }
}

/** The npm package eventsource-client: another interface on another implementation. */
async function withEventSourceClient(url: string): Promise<Follower> {
  const received: Received[] = []
  const source = createEventSource({
    url,
    onMessage: ({ event, id, data }) => received.push({ event: event ?? 'message', id: id ?? '', data }),
  })
  return { received: async () => received, close: async () => source.close() }
}

const clients = { eventsource: withEventSource, 'eventsource-client': withEventSourceClient }

for (const [name, follow] of Object.entries(clients)) {
  test(`${name} is told everything once across a cut and a kill`, { timeout: 90_000 }, async () => {
    expect.hasAssertions()
    await expectToResume({ database: await testDatabase(), follow })
  })
}
