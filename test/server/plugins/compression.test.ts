import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { bodies } from '../../support/http.js'
import { testServer } from '../../support/server.js'
const app = await testServer()
const large = { ...bodies.session_messages, content: 'a sentence of many. '.repeat(200) }
test('smoke', async () => {
  const made = await app.inject({ method: 'PUT', url: '/api/v1/session_messages/m1', payload: large, headers: {'accept-encoding':'br'} })
  console.log(made.statusCode, made.headers)
  for (const method of ['GET','HEAD'] as const) for (const enc of ['br','gzip','identity','gzip;q=0.5, br;q=0.1','*']) {
    const r = await app.inject({ method, url: '/api/v1/session_messages/m1', headers: { 'accept-encoding': enc } })
    console.log(method, enc, r.statusCode, r.headers['content-encoding'], r.headers['content-length'], r.headers.etag, r.headers.vary, r.rawPayload.length)
  }
  const r = await app.inject({ method: 'GET', url: '/api/v1/session_messages/export', headers: { 'accept-encoding': 'gzip' } })
  console.log(r.headers, gunzipSync(r.rawPayload).length)
  for (const url of ['/docs/static/swagger-ui.css', '/docs/json', '/docs']) { const d = await app.inject({ url, headers: { 'accept-encoding': 'br' } })
  console.log(url, d.statusCode, d.headers, d.rawPayload.length)
  brotliDecompressSync(d.rawPayload) }
})
