import { expect, test } from 'vitest'
import { call, expectError } from '../../support/http.js'
import { testServer } from '../../support/server.js'

/** The plugin looks every five seconds. */
const LOOKED = { timeout: 20_000, interval: 100 }

test('a heap over its limit refuses work with 503 and Retry-After, and health is still told', async () => {
  const app = await testServer('embedded', { maxHeapPercent: 1 })
  await expect.poll(async () => (await call(app, 'GET', '/')).status, LOOKED).toBe(503)
  const refused = await call(app, 'GET', '/api/v1/agent_tasks')
  expectError(refused, 503, 'OVERLOADED')
  expect(refused.headers['retry-after']).toBe('1')
  for (const url of ['/health', '/health/live', '/health/ready'])
    expect((await call(app, 'GET', url)).status).toBe(200)
})

test('an event loop that is held up refuses work until it is free again', async () => {
  const app = await testServer('embedded', { maxEventLoopDelayMs: 50 })
  const hold = setInterval(() => {
    for (const until = performance.now() + 200; performance.now() < until; );
  }, 1)
  try {
    await expect.poll(async () => (await call(app, 'GET', '/')).json.code, LOOKED).toBe('OVERLOADED')
  } finally {
    clearInterval(hold)
  }
  await expect.poll(async () => (await call(app, 'GET', '/')).status, LOOKED).toBe(200)
})

test('0 looks at neither', async () => {
  const app = await testServer('embedded', { maxEventLoopDelayMs: 0, maxHeapPercent: 0 })
  expect((await call(app, 'GET', '/')).status).toBe(200)
})
