import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Browser, Page } from 'playwright-core'
import { beforeAll, describe, expect, test } from 'vitest'
import { chromiumIsAvailable, launchChromium } from '../support/chromium.js'
import { testDatabase } from '../support/database.js'
import { atEndOfFile } from '../support/leaks.js'
import { expectToResume, type Follower, type Received } from './support/streams/resume-scenario.js'

const NAMES = ['connection', 'ready', 'reset', 'insert', 'update', 'delete', 'heartbeat', 'close']

describe.runIf(await chromiumIsAvailable())("a browser's EventSource on a page of another origin", () => {
  let browser: Browser
  let origin: string

  beforeAll(async () => {
    browser = await launchChromium()
    atEndOfFile(() => browser.close())
    const pages = createServer((_request, response) =>
      response.setHeader('content-type', 'text/html').end('<p>'),
    )
    pages.listen(0, '127.0.0.1')
    await once(pages, 'listening')
    origin = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`
    atEndOfFile(async () => {
      pages.closeAllConnections()
      pages.close()
    })
  })

  /** Listens by these names, or with onmessage when there are none. */
  const following =
    (names: readonly string[]) =>
    async (url: string): Promise<Follower> => {
      const page = await browser.newPage()
      await page.goto(origin)
      await page.evaluate(listen, { url, names })
      return { received: () => received(page), close: () => page.close() }
    }

  test('is told everything once across a cut and a kill', { timeout: 90_000 }, async () => {
    expect.hasAssertions()
    await expectToResume({ database: await testDatabase(), follow: following(NAMES) })
  })

  test('gets the same with onmessage when the stream is asked for as format=message', {
    timeout: 90_000,
  }, async () => {
    expect.hasAssertions()
    await expectToResume({
      database: await testDatabase(),
      follow: following([]),
      path: '/api/v1/stream/agent_tasks?format=message',
    })
  })
})

/** Runs in the page. */
function listen({ url, names }: { url: string; names: readonly string[] }): void {
  const page = globalThis as unknown as { received: Received[]; source: EventSource }
  page.received = []
  page.source = new EventSource(url)
  const keep = (event: string) => (message: Event) => {
    const { lastEventId, data } = message as MessageEvent & { data: string }
    page.received.push({ event, id: lastEventId, data })
  }
  if (names.length === 0) page.source.onmessage = keep('message')
  for (const name of names) page.source.addEventListener(name, keep(name))
}

const received = (page: Page): Promise<Received[]> =>
  page.evaluate(() => (globalThis as unknown as { received: Received[] }).received)
