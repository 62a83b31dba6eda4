import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { type ClientRequest, type IncomingMessage, request } from 'node:http'
import { pipeline } from 'node:stream/promises'
import {
  brotliCompressSync,
  brotliDecompressSync,
  createGunzip,
  deflateSync,
  type Gunzip,
  gunzipSync,
  gzipSync,
} from 'node:zlib'
import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import { openStream } from '../../support/event-stream.js'
import { until } from '../../support/follower.js'
import { bodies, call, expectError } from '../../support/http.js'
import { testServer } from '../../support/server.js'

const MESSAGES = '/api/v1/session_messages'
const EVENTS = '/api/v1/opencode_events'
const LIMIT = 1024 * 1024
const large = { ...bodies.session_messages, content: 'one sentence of many. '.repeat(200) }
const expand = { br: brotliDecompressSync, gzip: gunzipSync, identity: (bytes: Buffer) => bytes }
type Encoding = keyof typeof expand

let app: FastifyInstance
let base: string
/** What expands the body of the last request to /watched. */
let expanding: Gunzip
beforeAll(async () => {
  app = await testServer('embedded', { bodyLimitBytes: LIMIT }, (server) => {
    const watch = (
      _request: unknown,
      _reply: unknown,
      payload: unknown,
      done: (e: null, p: never) => void,
    ) => {
      expanding = payload as Gunzip
      done(null, payload as never)
    }
    server.post('/watched', { preParsing: watch }, () => 'read')
  })
  base = await app.listen({ host: '127.0.0.1', port: 0 })
  await call(app, 'PUT', `${MESSAGES}/large`, { body: large })
  await call(app, 'PUT', `${MESSAGES}/small`, { body: bodies.session_messages })
})

async function ask(url: string, encoding: string | undefined, more: object = {}, of = app) {
  const answer = await of.inject({
    url,
    ...more,
    headers: { ...(encoding !== undefined && { 'accept-encoding': encoding }), ...Object(more).headers },
  })
  const used = (answer.headers['content-encoding'] ?? 'identity') as Encoding
  return { ...answer, used, bytes: answer.rawPayload, text: () => String(expand[used](answer.rawPayload)) }
}

describe('answers', () => {
  test.each([
    [undefined, 'identity'],
    ['identity', 'identity'],
    ['gzip', 'gzip'],
    ['gzip, deflate, br', 'br'],
    ['GZIP;q=0.8, br;q=0.1', 'gzip'],
    ['br;q=0, *;q=0', 'identity'],
    ['compress', 'identity'],
  ])('are sent to a client that accepts %s as %s, and HEAD tells the same', async (accepted, encoding) => {
    const got = await ask(`${MESSAGES}/large`, accepted)
    expect(got).toMatchObject({ statusCode: 200, used: encoding })
    expect(got.headers.vary).toBe('accept-encoding')
    expect(got.headers['content-length']).toBe(String(got.bytes.length))
    expect(got.headers.etag).toBe(encoding === 'identity' ? '"1"' : `"1-${encoding}"`)
    expect(JSON.parse(got.text()).data).toMatchObject(large)
    if (encoding !== 'identity') expect(got.bytes.length).toBeLessThan(500)

    const head = await ask(`${MESSAGES}/large`, accepted, { method: 'HEAD' })
    const told = ['content-encoding', 'content-length', 'etag', 'vary', 'content-type']
    expect(told.map((name) => head.headers[name])).toEqual(told.map((name) => got.headers[name]))
    expect(head.bytes.length).toBe(0)
  })

  test('below the threshold stay as they are', async () => {
    const small = await ask(`${MESSAGES}/small`, 'br')
    expect(small).toMatchObject({ used: 'identity', headers: { etag: '"1"' } })
    expect(small.headers.vary).toBeUndefined()
  })

  test('of every kind of text are compressed: JSON, NDJSON, metrics, documentation, errors', async () => {
    const unknown = `/nothing/${'of-that-name-'.repeat(90)}`
    for (const [url, status] of [
      [MESSAGES, 200],
      [`${MESSAGES}/export`, 200],
      ['/metrics', 200],
      ['/docs/json', 200],
      [unknown, 404],
    ] as const) {
      const plain = await ask(url, undefined)
      const packed = await ask(url, 'gzip')
      expect({ url, status: packed.statusCode, used: packed.used }).toEqual({ url, status, used: 'gzip' })
      expect(packed.headers.vary, url).toBe('accept-encoding')
      expect(plain.headers.vary, url).toBe('accept-encoding')
      // These say when they were made, and what was asked before.
      if (url !== '/metrics' && status === 200) expect(packed.text()).toBe(plain.text())
    }
  })

  test('that are streams of events are not, nor those that hold secrets', async () => {
    const stream = await openStream(`${base}/api/v1/stream`, { 'accept-encoding': 'gzip, br' })
    await stream.until(({ event }) => event !== undefined)
    expect(stream.headers['content-encoding']).toBeUndefined()
    stream.close()

    for (let n = 0; n < 5; n++) {
      const body = { name: `${n} ${'long '.repeat(15)}`, role: 'reader' }
      await call(app, 'POST', '/api/v1/keys', { body })
    }
    const keys = await ask('/api/v1/keys', 'gzip, br')
    expect(keys.bytes.length).toBeGreaterThan(1024)
    expect(keys).toMatchObject({ statusCode: 200, used: 'identity' })
    expect(keys.headers['cache-control']).toBe('no-store')
  })

  test('keep their conditions: whatever tag was given names the version', async () => {
    const url = `${MESSAGES}/conditional`
    const made = await ask(url, 'br', { method: 'PUT', payload: large })
    expect(made).toMatchObject({ statusCode: 201, used: 'br', headers: { etag: '"1-br"' } })
    const held = async (tag: string, encoding: string) => {
      const { statusCode, headers, bytes } = await ask(url, encoding, { headers: { 'if-none-match': tag } })
      return [statusCode, headers.etag, headers.vary, headers['content-encoding'], bytes.length === 0]
    }
    // A cache looks for what it holds by the tag of the 304.
    expect(await held('"1-br"', 'br')).toEqual([304, '"1-br"', 'accept-encoding', undefined, true])
    expect(await held('W/"1-br", "7"', 'br')).toEqual([304, '"1-br"', 'accept-encoding', undefined, true])
    expect(await held('"1"', 'gzip')).toEqual([304, '"1"', 'accept-encoding', undefined, true])
    expect(await held('"2-br"', 'br')).toEqual([200, '"1-br"', 'accept-encoding', 'br', false])

    const write = async (tag: string) => {
      const { statusCode } = await ask(url, 'gzip', {
        method: 'PUT',
        payload: large,
        headers: { 'if-match': tag },
      })
      return statusCode
    }
    expect(await write('W/"1-br"')).toBe(412)
    expect(await write('"2-br"')).toBe(412)
    expect(await write('"1-br"')).toBe(200)
    expect(await write('"2"')).toBe(200)
    expect(await write('"2-gzip"')).toBe(412)
  })

  test('are left to others when compression is off, and vary by origin too where that decides', async () => {
    const off = await testServer('embedded', { compression: 'off' })
    await call(off, 'PUT', `${MESSAGES}/large`, { body: large })
    const plain = await ask(`${MESSAGES}/large`, 'br', {}, off)
    expect(plain).toMatchObject({ used: 'identity', headers: { etag: '"1"' } })
    expect(plain.headers.vary).toBeUndefined()
    expect((await ask(`${MESSAGES}/export`, 'br', {}, off)).used).toBe('identity')
    const sent = { method: 'PUT', payload: gzipSync(JSON.stringify(large)), headers: packed('gzip') }
    expect(await ask(`${MESSAGES}/other`, 'br', sent, off)).toMatchObject({ statusCode: 201 })

    const origin = 'https://example.com'
    const one = await testServer('embedded', { corsOrigin: [origin], compressionThresholdBytes: 10 })
    const answer = await ask('/health/live', 'gzip', { headers: { origin } }, one)
    expect(answer).toMatchObject({ used: 'gzip', headers: { vary: 'Origin, accept-encoding' } })
  })

  test('that are exported come page by page, and wait for a slow reader', async () => {
    // 12 MB that hardly shrink, so that neither sockets nor pages hold them.
    const line = (id: number) =>
      JSON.stringify({
        ...bodies.opencode_events,
        id: `e${id}`,
        event_data: { r: randomBytes(9000).toString('base64') },
      })
    const lines = Array.from({ length: 1000 }, (_, id) => line(id))
    const made = await call(app, 'POST', `${EVENTS}/import`, {
      headers: { 'content-type': 'application/x-ndjson' },
      body: lines.join('\n'),
    })
    expect(made.json.data.created).toBe(1000)
    const connected = once(app.server, 'connection')
    const [response] = await answerOf(
      request(`${base}${EVENTS}/export`, { agent: false, headers: { 'accept-encoding': 'gzip' } }).end(),
    )
    const [socket] = await connected
    const gunzip = createGunzip()
    const read = pipeline(response, gunzip)
    // Whole lines are there while all but the first pages are still to come.
    const [first] = await once(gunzip, 'data')
    expect(JSON.parse(String(first).split('\n')[0] ?? '').id).toBe('e0')
    gunzip.pause()
    for (let n = 0; n < 40; n++) await call(app, 'GET', `${EVENTS}?limit=1`)
    expect(socket.bytesWritten).toBeLessThan(7_000_000)
    let text = String(first)
    gunzip.on('data', (part: Buffer) => {
      text += part
    })
    gunzip.resume()
    await read
    expect(text.split('\n')).toHaveLength(1001)
  })
})

const packed = (encoding: string, type = 'application/json') => ({
  'content-type': type,
  'content-encoding': encoding,
})
const importOf = (body: Buffer, encoding: string) =>
  call(app, 'POST', `${MESSAGES}/import`, { headers: packed(encoding, 'application/x-ndjson'), body })
const stored = async (session: string) =>
  (await call(app, 'GET', `${MESSAGES}?limit=1&session_id=${session}`)).json.pagination.total
const messages = (session: string, count: number) =>
  Array.from({ length: count }, () =>
    JSON.stringify({ ...bodies.session_messages, session_id: session }),
  ).join('\n')

describe('bodies', () => {
  test.each([
    ['gzip', gzipSync],
    ['br', brotliCompressSync],
    ['deflate', deflateSync],
    ['identity', Buffer.from],
  ] as const)('in %s are read by every route', async (encoding, pack) => {
    const sent = (method: string, url: string, body: unknown) =>
      call(app, method, url, { headers: packed(encoding), body: pack(JSON.stringify(body)) as Buffer })
    const made = await sent('POST', MESSAGES, large)
    expect(made).toMatchObject({ status: 201, json: { data: large } })
    const changed = await sent('PATCH', `${MESSAGES}/${made.json.data.id}`, { content: 'short' })
    expect(changed.json.data.content).toBe('short')
    const batch = await sent('POST', `${MESSAGES}/batch`, {
      operations: [{ op: 'delete', id: made.json.data.id }],
    })
    expect(batch.json).toMatchObject({ success: true, data: [{ status: 200 }] })
    const loaded = await importOf(pack(messages(`in-${encoding}`, 3000)) as Buffer, encoding)
    expect(loaded.json.data).toMatchObject({ received: 3000, created: 3000 })
  })

  test('in an encoding that is not known are refused', async () => {
    for (const encoding of ['compress', 'gzip, br', 'gzip2']) {
      const body = Buffer.from('{}')
      expectError(
        await call(app, 'POST', MESSAGES, { headers: packed(encoding), body }),
        415,
        'UNSUPPORTED_MEDIA_TYPE',
      )
      expectError(await importOf(body, encoding), 415, 'UNSUPPORTED_MEDIA_TYPE')
    }
  })

  test('that expand beyond the limit are refused, and expand no further', async () => {
    const bomb = gzipSync(Buffer.alloc(200 * LIMIT, ' '), { level: 1 })
    expect(bomb.length).toBeLessThan(LIMIT)
    for (const url of [MESSAGES, `${MESSAGES}/batch`, '/watched']) {
      const answer = await call(app, 'POST', url, { headers: packed('gzip'), body: bomb })
      expectError(answer, 413, 'PAYLOAD_TOO_LARGE')
    }
    await until(() => expanding.destroyed)
    expect(expanding.bytesWritten).toBeLessThan(bomb.length / 2)

    // Of an import: one line that is too long, and very many of nothing.
    expectError(await importOf(bomb, 'gzip'), 413, 'PAYLOAD_TOO_LARGE')
    const empty = gzipSync(Buffer.alloc(40 * LIMIT, '\n'))
    expectError(await importOf(empty, 'gzip'), 413, 'PAYLOAD_TOO_LARGE')
  })

  test('that are broken are refused, and what was read of an import before stays', async () => {
    const whole = gzipSync(JSON.stringify({ ...large, session_id: 'broken' }))
    const broken = [whole.subarray(0, -12), Buffer.concat([whole.subarray(0, 20), randomBytes(100)])]
    for (const body of [...broken, Buffer.from('{}'), Buffer.alloc(0)]) {
      expectError(await call(app, 'POST', MESSAGES, { headers: packed('gzip'), body }), 400)
    }
    expect(await stored('broken')).toBe(0)

    const lines = Array.from({ length: 4000 }, (_, n) =>
      JSON.stringify({
        ...bodies.session_messages,
        session_id: 'cut',
        content: randomBytes(30).toString('hex'),
        id: `cut${n}`,
      }),
    )
    const cut = await importOf(gzipSync(lines.join('\n')).subarray(0, -2000), 'gzip')
    expectError(cut, 400, 'INVALID_REQUEST')
    const [, last] = /broke off behind line (\d+)/.exec(cut.json.message) ?? []
    expect(Number(last)).toBeGreaterThan(1000)
    expect(await stored('cut')).toBe(Number(last))
  })
})

async function answerOf(sent: ClientRequest): Promise<[IncomingMessage]> {
  return (await once(sent, 'response')) as [IncomingMessage]
}
