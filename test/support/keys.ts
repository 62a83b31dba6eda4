import type { FastifyInstance } from 'fastify'
import { expect } from 'vitest'
import { type Answer, type CallOptions, call } from './http.js'

/**
 * Settings of a server that needs keys, with no legacy token whose body would stand in for the usual errors, and that
 * lets tests try wrong ones as often as they like.
 */
export const withAuth = { authEnabled: true, authAttemptsPerMinute: 0 } as const

/** Headers of a request that shows a key. */
export const bearer = (key: string) => ({ authorization: `Bearer ${key}` })

/** Sends one request with a key. */
export function callAs(
  app: FastifyInstance,
  key: string,
  method: string,
  url: string,
  { headers, body }: CallOptions = {},
): Promise<Answer> {
  return call(app, method, url, {
    headers: { ...bearer(key), ...headers },
    ...(body !== undefined && { body }),
  })
}

/** A key as it is told once. */
export interface MadeKey {
  id: string
  key: string
}

/** Makes a key over HTTP with the key of an admin; fails the test when that does not work. */
export async function makeKey(app: FastifyInstance, admin: string, input: object): Promise<MadeKey> {
  const answer = await callAs(app, admin, 'POST', '/api/v1/keys', { body: { name: 'of a test', ...input } })
  expect(answer.status, answer.text).toBe(201)
  return answer.json.data
}
