import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from 'jose'
import { atEndOfFile } from './leaks.js'

export const ISSUER = 'https://issuer.example'
export const AUDIENCE = 'dualstore-test'
export const nowSeconds = () => Math.floor(Date.now() / 1000)

export interface KeyPair {
  kid: string
  alg: string
  privateKey: CryptoKey
  publicJwk: JWK
}

export async function keyPair(alg: 'RS256' | 'ES256' | 'EdDSA', kid: string): Promise<KeyPair> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  return { kid, alg, privateKey, publicJwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } }
}

/** Claims of any kind; undefined takes one away. */
export type Claims = Readonly<Record<string, unknown>>

/** Claims that pass, with others. */
export function claimsOf(more: Claims = {}): JWTPayload {
  const now = nowSeconds()
  return { iss: ISSUER, aud: AUDIENCE, sub: 'alice', role: 'reader', iat: now, exp: now + 300, ...more }
}

/** A token of the issuer, or of somebody who would like to be it. */
export function signed(pair: KeyPair, claims: Claims = {}, header: object = {}): Promise<string> {
  return new SignJWT(claimsOf(claims))
    .setProtectedHeader({ alg: pair.alg, kid: pair.kid, ...header })
    .sign(pair.privateKey)
}

/** A real HTTP server where an issuer's keys are; `answer` may be replaced at any time. */
export async function jwksServer(keys: () => readonly JWK[]) {
  const serve: RequestListener = (_request, response) => {
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify({ keys: keys() }))
  }
  const state = { requests: 0, answer: serve }
  const server = createServer((request, response) => {
    state.requests++
    // Nothing is kept open behind the test.
    response.setHeader('connection', 'close')
    state.answer(request, response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const close = async () => {
    server.closeAllConnections()
    if (server.listening) await new Promise<void>((resolve) => server.close(() => resolve()))
  }
  atEndOfFile(close)
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}/jwks.json`,
    get requests() {
      return state.requests
    },
    answerWith: (answer?: RequestListener) => {
      state.answer = answer ?? serve
    },
    close,
  }
}
