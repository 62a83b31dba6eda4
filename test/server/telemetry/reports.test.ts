import { expect, test } from 'vitest'
import { startCollector } from '../../support/collector.js'
import { until } from '../../support/follower.js'
import { call } from '../../support/http.js'
import { testServer } from '../../support/server.js'

const collector = await startCollector()
const KEY = '0123456789abcdef0123456789abcdef'
const dsn = collector.url.replace('//', `//${KEY}@`).concat('/42')

/** The events of what came in: Sentry's envelopes are lines of JSON, a header and a body for each item. */
function events() {
  return collector.received.flatMap(({ body }) => {
    const lines = body.trim().split('\n')
    return lines.flatMap((line, index) =>
      index > 0 && (JSON.parse(line) as { type?: string }).type === 'event'
        ? [JSON.parse(lines[index + 1] ?? '') as Record<string, unknown>]
        : [],
    )
  })
}

test('a 5xx is reported with its request id and route, once, and with nothing of what a client has sent', async () => {
  const app = await testServer('embedded', { sentryDsn: dsn, sentryEnvironment: 'staging' }, (app) => {
    app.post('/api/v1/fails/:id', { config: { right: 'public' } }, async (request) => {
      throw new Error(`row ${JSON.stringify(request.body)} of "somebody" is not right`, {
        cause: new Error('the driver said no'),
      })
    })
  })
  const fail = (id: string, headers = {}) =>
    call(app, 'POST', '/api/v1/fails/private-id?q=private', {
      headers: { authorization: 'Bearer private', 'x-request-id': id, ...headers },
      body: { content: 'private' },
    })
  expect((await fail('req-1')).status).toBe(500)
  expect((await fail('req-2')).status).toBe(500)
  expect((await call(app, 'GET', '/nowhere')).status).toBe(404)
  await until(() => events().length > 0)
  await app.close()
  expect(events()).toEqual([
    expect.objectContaining({
      level: 'error',
      environment: 'staging',
      release: 'dualstore@1.0.0',
      tags: {
        code: 'INTERNAL',
        request_id: 'req-1',
        method: 'POST',
        route: '/api/v1/fails/:id',
        status: 500,
      },
    }),
  ])
  const [event] = events() as {
    exception: { values: { value: string; stacktrace: { frames: object[] } }[] }
  }[]
  const values = event?.exception.values ?? []
  expect(values.map(({ value }) => value)).toContain('the driver said no')
  expect(values.at(-1)?.stacktrace.frames.length).toBeGreaterThan(3)
  expect(JSON.stringify(collector.received)).not.toMatch(/private|somebody/)
  expect(collector.received[0]?.path).toMatch(/^\/api\/42\/envelope\//)
  expect(collector.received[0]?.path).toContain(KEY)
})

test('a DSN that is none stops the start, and is not repeated', async () => {
  const start = testServer('embedded', { sentryDsn: 'https://secret-host/not-a-dsn' })
  await expect(start).rejects.toMatchObject({
    code: 'INVALID_CONFIG',
    message: expect.stringMatching(/sentry-dsn is the given value, but must be a DSN/),
  })
})
