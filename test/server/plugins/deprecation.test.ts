import { expect, test } from 'vitest'
import { openStream } from '../../support/event-stream.js'
import { bodies, call } from '../../support/http.js'
import { listeningServer, testServer } from '../../support/server.js'

const SUNSET = '2027-06-30'
const told = { deprecation: '@1793491200', sunset: 'Wed, 30 Jun 2027 00:00:00 GMT' }
const LINK = '</docs>; rel="deprecation"; type="text/html"'

const { app, base } = await listeningServer({ legacySunset: SUNSET })
const formOf = async (query: string, server = base) => {
  const stream = await openStream(`${server}/api/v1/stream/agent_tasks${query}`)
  stream.close()
  return stream.headers
}

test('raw documents and unnamed streams tell since when and until when', async () => {
  const raw = await call(app, 'GET', '/debug/dualstore-data')
  expect([raw.status, raw.headers]).toEqual([200, expect.objectContaining({ ...told, link: LINK })])
  expect(await formOf('?format=message')).toMatchObject({ ...told, link: LINK })
})

test('everything else of the legacy API stays, and says nothing', async () => {
  const headers = [
    (await call(app, 'GET', '/api/v1/agent_tasks?session_id=a&created_after=2024-01-01')).headers,
    (await call(app, 'POST', '/api/v1/agent_tasks', { body: bodies.agent_tasks })).headers,
    await formOf(''),
  ]
  for (const given of headers) {
    expect(given).not.toHaveProperty('deprecation')
    expect(given).not.toHaveProperty('sunset')
  }
})

test('unnamed streams by setting are told too, and named ones asked for are not', async () => {
  const { base: unnamed } = await listeningServer({
    legacySunset: SUNSET,
    streamFormat: 'message',
    openapiEnabled: false,
  })
  const stream = await openStream(`${unnamed}/api/v1/stream/agent_tasks`)
  const { event, data } = await stream.until(({ data: { type } }) => type === 'connection')
  expect([event, data.type]).toEqual([undefined, 'connection'])
  stream.close()
  expect(stream.headers).toMatchObject(told)
  expect(stream.headers).not.toHaveProperty('link')
  expect(await formOf('?format=named', unnamed)).not.toHaveProperty('sunset')
})

test('the legacy token is told with every answer, a key never', async () => {
  const secured = await testServer('embedded', { legacySunset: SUNSET, authBearerToken: 'legacy-token' })
  const made = await call(secured, 'POST', '/api/v1/keys', {
    headers: { authorization: 'Bearer legacy-token' },
    body: { name: 'new', role: 'reader' },
  })
  expect([made.status, made.headers]).toEqual([201, expect.objectContaining(told)])
  const { headers, status } = await call(secured, 'GET', '/api/v1/agent_tasks', {
    headers: { authorization: `Bearer ${made.json.data.key}` },
  })
  expect([status, headers.sunset]).toEqual([200, undefined])
})

test('without the setting nothing is told', async () => {
  const plain = await testServer()
  expect((await call(plain, 'GET', '/debug/dualstore-data')).headers).not.toHaveProperty('sunset')
})
