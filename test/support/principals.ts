import type { FastifyInstance } from 'fastify'
import { parseFilter } from '../../src/server/filter/parse.js'
import { type Principal, unrestricted } from '../../src/server/services/principal.js'

/** What a test's principal differs in from one that may do everything. */
export interface Rights extends Partial<Pick<Principal, 'id' | 'role' | 'keyId' | 'expiresAt'>> {
  /** In the language of lists. */
  rows?: object
  read?: string[]
  write?: string[]
}

const HEADER = 'x-test-principal'

/** Headers of a request by a principal with these rights, to a server with `withPrincipals`. */
export function as(rights: Rights): Record<string, string> {
  return { [HEADER]: Buffer.from(JSON.stringify(rights)).toString('base64') }
}

export function principalOf({ rows, read, write, ...others }: Rights): Principal {
  const principal = { ...unrestricted('everyone'), ...others }
  const scopes = { read: read ?? principal.scopes.read, write: write ?? principal.scopes.write }
  return { ...principal, scopes, rows: rows === undefined ? principal.rows : parseFilter(rows, 'rows') }
}

/** Lets requests say by whom they are, behind whatever authentication there is. For testServer's `extend`. */
export function withPrincipals(app: FastifyInstance): void {
  // One object for a credential, as the server makes them.
  const known = new Map<string, Principal>()
  app.addHook('onRequest', async (request) => {
    const text = request.headers[HEADER]
    if (typeof text !== 'string') return
    const principal =
      known.get(text) ?? principalOf(JSON.parse(Buffer.from(text, 'base64').toString()) as Rights)
    known.set(text, principal)
    request.access = { principal, address: request.ip }
  })
}
