import { once } from 'node:events'
import { connect } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import { bodies, call } from '../../support/http.js'
import { testServer } from '../../support/server.js'

const TASKS = '/api/v1/agent_tasks'
const NOTES = '/api/v1/notes'
const task = bodies.agent_tasks ?? {}

let app: FastifyInstance
let address: { host: string; port: number }
beforeAll(async () => {
  app = await testServer('embedded', { bodyLimitBytes: 1024 * 1024, bodyIdleTimeoutMs: 300 })
  const url = new URL(await app.listen({ host: '127.0.0.1', port: 0 }))
  address = { host: url.hostname, port: Number(url.port) }
  await call(app, 'POST', '/api/v1/collections', {
    body: { name: 'notes', schema: { type: 'object' }, indexes: [{ fields: ['key'] }, { type: 'text' }] },
  })
  await call(app, 'PUT', `${TASKS}/standing`, { body: task })
})

describe('on the wire', () => {
  /** Sends bytes as they are; resolves with what came back when the server closes, or fails after two seconds. */
  async function wire(text: string | Buffer, { end = false } = {}): Promise<string> {
    const socket = connect(address)
    const timer = setTimeout(() => socket.destroy(new Error('the server hangs')), 5000)
    let answer = ''
    socket.setEncoding('utf8').on('data', (chunk) => {
      answer += chunk
    })
    socket.write(text)
    if (end) socket.end()
    try {
      await once(socket, 'close')
    } finally {
      clearTimeout(timer)
    }
    return answer
  }
  const head = (...lines: string[]) =>
    `POST ${NOTES} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`

  test.each([
    ['no HTTP', 'hello\r\n\r\n', 400],
    ['a bad content-length', `${head('Content-Length: x')}`, 400],
    ['two content-lengths', `${head('Content-Length: 2', 'Content-Length: 3')}{}`, 400],
    [
      'content-length beside chunks',
      `${head('Content-Length: 2', 'Transfer-Encoding: chunked')}0\r\n\r\n`,
      400,
    ],
    ['chunks that are none', `${head('Transfer-Encoding: chunked')}xyz\r\n`, 400],
    ['an unknown transfer encoding', `${head('Transfer-Encoding: x')}`, 400],
    ['a header without a name', 'GET / HTTP/1.1\r\n: x\r\n\r\n', 400],
    ['a line break in a header', 'GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\rb\r\n\r\n', 400],
    ['a URL of 40 kB', `GET /${'x'.repeat(40_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 431],
    ['headers of 40 kB', `GET / HTTP/1.1\r\nHost: x\r\nX-A: ${'x'.repeat(40_000)}\r\n\r\n`, 431],
    ['no host', 'GET / HTTP/1.1\r\n\r\n', 400],
    ['HTTP/9', 'GET / HTTP/9.9\r\nHost: x\r\n\r\n', 400],
  ])('%s is answered and the connection closed', async (_name, text, status) => {
    const answer = await wire(text)
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
    if (_name === 'no host') return
    expect(JSON.parse(answer.split('\r\n\r\n')[1] ?? '')).toMatchObject({
      success: false,
      code: expect.any(String),
    })
  })

  test.each([
    ['a chunked body', `${head('Transfer-Encoding: chunked')}5\r\n{"a":`],
    ['a body with a length', `${head('Content-Length: 100')}{"a":1`],
    [
      'an import',
      `${head('Transfer-Encoding: chunked').replace('application/json', 'application/x-ndjson').replace(NOTES, `${NOTES}/import`)}3\r\n{"a`,
    ],
  ])('%s that stops is not waited for, whether or not the client stays', async (_name, text) => {
    const before = (await call(app, 'GET', `${NOTES}/export`)).text
    await wire(text)
    await wire(text, { end: true })
    expect((await call(app, 'GET', `${NOTES}/export`)).text).toBe(before)
    expect((await call(app, 'GET', '/health/ready')).status).toBe(200)
  })

  test('a second request hidden in a body is a body', async () => {
    const hidden = `DELETE ${TASKS}/standing HTTP/1.1\r\nHost: x\r\n\r\n`
    const answer = await wire(`${head(`Content-Length: ${hidden.length}`, 'Connection: close')}${hidden}`)
    expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 400'])
    expect((await call(app, 'GET', `${TASKS}/standing`)).status).toBe(200)
  })
})
