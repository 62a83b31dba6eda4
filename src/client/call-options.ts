import type { CallOptions } from './http.js'

export interface ReadOptions extends CallOptions {
  /** A position that the store which is read must have reached, such as that of one's own write. */
  waitFor?: string | undefined
  /** `postgres` by default. */
  readFrom?: 'postgres' | 'mirror' | undefined
}

export interface CreateOptions extends CallOptions {
  /** `strict` waits until the mirror has the write. */
  consistency?: 'strict' | 'eventual' | undefined
  /** Repeating the call with it repeats nothing, for a day. Without one the client makes one for each call. */
  idempotencyKey?: string | undefined
}

export interface WriteOptions extends CallOptions {
  consistency?: 'strict' | 'eventual' | undefined
  /** Only over this version, or with `*` over whatever is there; otherwise PRECONDITION_FAILED. */
  ifMatch?: number | '*' | undefined
}

export interface PutOptions extends WriteOptions {
  /** Only where nothing is. */
  ifNoneMatch?: '*' | undefined
}

/** What the transport itself needs of a call's options. */
export function callOf({ signal, timeoutMs }: CallOptions): CallOptions {
  return { signal, timeoutMs }
}

export function readHeaders({ waitFor, readFrom }: ReadOptions) {
  return { 'x-dualstore-wait-for': waitFor, 'x-dualstore-read-from': readFrom }
}

export function createHeaders({ consistency, idempotencyKey = newKey() }: CreateOptions) {
  return { 'x-dualstore-consistency': consistency, 'idempotency-key': idempotencyKey }
}

export function writeHeaders({ consistency, ifMatch, ifNoneMatch }: PutOptions) {
  return {
    'x-dualstore-consistency': consistency,
    'if-match': typeof ifMatch === 'number' ? `"${ifMatch}"` : ifMatch,
    'if-none-match': ifNoneMatch,
  }
}

/** Its own first attempt would fail a condition's repeat, and be taken for somebody else's write. */
export function conditional({ ifMatch, ifNoneMatch }: PutOptions): boolean {
  return ifMatch !== undefined || ifNoneMatch !== undefined
}

/** As random as crypto.randomUUID, which browsers have only on pages from https. */
function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
