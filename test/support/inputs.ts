import type { InjectOptions } from 'fastify'

/** A document that is there. */
export const STANDING = 'standing'

/** One place of one operation into which a caller can write a text. */
export interface Input {
  /** The operationId without the collection. */
  operation: string
  method: string
  /** With {names} in braces. */
  path: string
  place: 'path' | 'query' | 'header' | 'body'
  /** Of the parameter, or the path to a text in the body. */
  name: string
  /** What the other places hold. */
  body: unknown
  contentType: string | undefined
}

/** Headers that anybody may send with anything and somebody in the server may read. */
const HEADERS = [
  'accept',
  'content-type',
  'cookie',
  'host',
  'if-match',
  'if-none-match',
  'idempotency-key',
  'origin',
]
const MORE_HEADERS = ['range', 'referer', 'user-agent', 'x-api-key', 'x-forwarded-for', 'x-request-id']

const item = { text: 'x', deep: { a: 'x', list: ['x'] } }
const definition = {
  label: 'Target',
  schema: {
    type: 'object',
    title: 'x',
    required: ['text'],
    properties: { text: { type: 'string', pattern: '^x', format: 'date', description: 'x', enum: ['x'] } },
  },
  id_prefix: 'x',
  indexes: [{ fields: ['text'] }],
  mirror: { collection: 'x', text: 'text', metadata: { text: 'x' }, spread: 'deep' },
}
/** A body that the operation takes, with a text wherever there can be one. */
const bodies: Record<string, unknown> = {
  create: { id: 'x', ...item },
  put: item,
  patch: item,
  batch: {
    operations: [
      { op: 'create', item: { id: 'x', ...item } },
      { op: 'put', id: 'x', item },
      { op: 'patch', id: 'x', patch: item },
      { op: 'delete', id: 'x' },
    ],
  },
  import: { id: 'x', created_at: '2024-02-29T00:00:00.000Z', ...item },
  createCollection: { name: 'x', ...definition },
  replaceCollection: { name: 'targets', ...definition },
  changeCollection: definition,
  createKey: {
    name: 'x',
    role: 'reader',
    scopes: { read: ['x'] },
    rows: { text: 'x' },
    expires_at: '2999-01-01',
  },
}
const JSON_PATCH = [
  { op: 'replace', path: '/text', value: 'x' },
  { op: 'copy', from: '/text', path: '/other' },
  { op: 'test', path: '/deep/a', value: 'x' },
]
const JSON_TYPE = 'application/json'
const types: Record<string, string> = { import: 'application/x-ndjson' }
const methodsWithBody = new Set(['POST', 'PUT', 'PATCH'])
/** They never end; test/server/routes/streaming.test.ts has them. */
const endless = /^stream/

// biome-ignore lint/suspicious/noExplicitAny: an OpenAPI document is walked by path
type Document = any

/**
 * Every input of every operation of an OpenAPI document: parameters of path, query and header, names of parameters,
 * headers of anything, and every text and every key of a body. Operations on documents are taken of one collection.
 * @param collections The first is the one that is taken; the second the one whose definition may be changed.
 */
export function inputsOf(document: Document, [collection = '', target = '']: readonly string[]): Input[] {
  const found: Input[] = []
  for (const [path, methods] of Object.entries<Document>(document.paths)) {
    for (const [method, described] of Object.entries<Document>(methods)) {
      const [, operation = '', of] =
        new RegExp(`^(.*?)(?:_(${collection}|${target}|[a-z_]+))?$`).exec(described.operationId) ?? []
      if (endless.test(operation) || (of !== undefined && of !== collection)) continue
      const known = { operation, method: method.toUpperCase(), path }
      const add = (
        place: Input['place'],
        name: string,
        body = bodies[operation],
        contentType = types[operation],
      ) =>
        found.push({
          ...known,
          place,
          name,
          body,
          contentType: contentType ?? (body === undefined ? undefined : JSON_TYPE),
        })
      for (const { in: place, name } of described.parameters ?? []) add(place, name)
      // Parameters that nobody has told of, and one whose name is the string.
      add('query', 'unknown')
      add('query', '')
      for (const name of of === undefined && operation !== 'index'
        ? ['x-request-id']
        : [...HEADERS, ...MORE_HEADERS])
        add('header', name)
      if (!methodsWithBody.has(known.method)) continue
      for (const name of textsOf(bodies[operation] ?? {})) add('body', name)
      if (operation === 'patch')
        for (const name of textsOf(JSON_PATCH)) add('body', name, JSON_PATCH, 'application/json-patch+json')
      // The whole body is the string.
      add('body', '')
    }
  }
  return found
}

/** The paths to every text of a value, and `key:` and the path for every object that could have one more key. */
function textsOf(value: unknown, path = ''): string[] {
  const at = (name: string | number) => (path === '' ? String(name) : `${path}/${name}`)
  if (typeof value === 'string') return [path]
  if (Array.isArray(value)) return value.flatMap((member, index) => textsOf(member, at(index)))
  if (typeof value !== 'object' || value === null) return []
  return [`key:${path}`, ...Object.entries(value).flatMap(([key, member]) => textsOf(member, at(key)))]
}

/** The request with a text in this place and what is usual in the others. */
export function requestWith(input: Input, text: string): InjectOptions {
  const { place, name, method } = input
  const usual: Record<string, string> = { name: 'targets', id: STANDING }
  const path = input.path.replace(/\{(\w+)\}/g, (_all, parameter: string) =>
    encoded(place === 'path' && parameter === name ? text : (usual[parameter] ?? 'x')),
  )
  const query = place === 'query' ? `?${name === '' ? `${encoded(text)}=x` : `${name}=${encoded(text)}`}` : ''
  const body = bodyWith(input, text)
  const headers: Record<string, string> = {}
  if (body !== undefined) headers['content-type'] = input.contentType ?? JSON_TYPE
  if (place === 'header') headers[name] = asHeader(text)
  return { method: method as 'GET', url: path + query, headers, ...(body !== undefined && { payload: body }) }
}

function bodyWith({ place, name, body, contentType }: Input, text: string): string | undefined {
  if (place !== 'body') return body === undefined ? undefined : JSON.stringify(body)
  if (name === '') return text
  const copy = structuredClone(body ?? {}) as Record<string, unknown>
  const isKey = name.startsWith('key:')
  const steps = name
    .replace(/^key:/, '')
    .split('/')
    .filter((step) => step !== '')
  const last = isKey ? undefined : steps.pop()
  const holder = steps.reduce((value, step) => value[step] as Record<string, unknown>, copy)
  if (last !== undefined) holder[last] = text
  else
    Object.defineProperty(holder, text, { value: 'x', enumerable: true, configurable: true, writable: true })
  const json = JSON.stringify(copy)
  return contentType === 'application/x-ndjson' ? `${json}\n${json}\n` : json
}

/** Half of a surrogate pair cannot be percent-encoded as UTF-8; its bytes can. */
function encoded(text: string): string {
  return text.isWellFormed() ? encodeURIComponent(text) : '%ED%A0%80'
}

/** A header as Node gives it: bytes read as Latin-1. Line ends and U+0000 cannot come in one. */
function asHeader(text: string): string {
  return Buffer.from(text, 'utf8')
    .toString('latin1')
    .replaceAll(/[\r\n\0]/g, ' ')
    .trim()
}
