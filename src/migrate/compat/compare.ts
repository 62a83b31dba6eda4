import type { Answer, Exchange, Frame } from './exchange.js'
import { compareLists } from './lists.js'
import { compareRaw } from './raw.js'
import { type Route, routeOf } from './routes.js'
import { compareValues, type Difference, type Fields, type Mode, member } from './values.js'

/** Two answers to one request, and what is known about it. */
export interface Compared {
  exchange: Exchange
  route: Route
  legacy: Answer
  target: Answer
}

/** Headers that clients depend on. */
const HEADERS = [
  'content-type',
  'access-control-allow-origin',
  'access-control-allow-credentials',
  'access-control-expose-headers',
]
const STREAM_HEADERS = [...HEADERS, 'cache-control', 'connection']
const PREFLIGHT_HEADERS = [...HEADERS, 'access-control-allow-methods', 'access-control-allow-headers']

/** Puts a request and its answers together. */
export function comparedOf(exchange: Exchange, legacy: Answer, target: Answer): Compared {
  return { exchange, route: routeOf(exchange.method, exchange.path), legacy, target }
}

/** Every difference of the target's answer from the legacy one, before anybody says what it means. */
export function compareAnswers({ route, legacy, target }: Compared, mode: Mode): Difference[] {
  // Two answers that did not come are not alike: nothing is known of either.
  if (legacy.status !== target.status || target.failure !== undefined) {
    const status: Difference = {
      where: 'status',
      kind: 'changed',
      legacy: legacy.failure ?? legacy.status,
      target: target.failure ?? target.status,
    }
    // The answer is another one altogether; of a refusal the form is still held.
    const refused = target.status >= 400 && target.status !== 401 && target.body !== undefined
    return refused ? [status, ...compareFailure(target.body)] : [status]
  }
  return [...compareHeaders(route, legacy, target), ...compareBodies(route, legacy, target, mode)]
}

/** How every failure but 401 looks (legacy contract, section 2): `{success: false, error}`. */
function compareFailure(body: unknown): Difference[] {
  const error = member(body, 'error')
  const example = { success: false, error: typeof error === 'string' ? error : '' }
  return compareValues(example, body, 'body', 'shape')
}

function compareHeaders({ kind }: Route, legacy: Answer, target: Answer): Difference[] {
  const names = kind === 'stream' ? STREAM_HEADERS : kind === 'preflight' ? PREFLIGHT_HEADERS : HEADERS
  return names.flatMap((name) =>
    compareValues(spaced(legacy.headers[name]), spaced(target.headers[name]), `header ${name}`, 'value'),
  )
}

function compareBodies(route: Route, legacy: Answer, target: Answer, mode: Mode): Difference[] {
  if (legacy.frames !== undefined || target.frames !== undefined) return compareStreams(legacy, target, mode)
  if (route.kind === 'debug' && mode === 'value') return compareRaw(legacy.body, target.body)
  if (route.kind === 'create' && generatedAlike(legacy.body, target.body))
    return compareValues(withoutId(legacy.body), withoutId(target.body), 'body', mode)
  if (route.kind !== 'list' || mode === 'shape' || !Array.isArray(member(target.body, 'data')))
    return compareValues(legacy.body, target.body, 'body', mode)
  const envelope = compareValues(
    { ...(legacy.body as object), data: [] },
    { ...(target.body as object), data: [] },
    'body',
    mode,
  )
  const sortBy = route.query.get('sort_by') ?? 'created_at'
  return [...envelope, ...compareLists(legacy.body, target.body, sortBy)]
}

/** Ids that a server generates: `msg_`, `task_` or `event_`, milliseconds, nine base-36 characters. */
const GENERATED_ID = /^([a-z]+)_\d{13}_[\da-z]{9}$/

function generatedAlike(...bodies: readonly unknown[]): boolean {
  const prefixes = bodies.map((body) => GENERATED_ID.exec(String(member(body, 'data', 'id')))?.[1])
  return prefixes[0] !== undefined && prefixes.every((prefix) => prefix === prefixes[0])
}

function withoutId(body: unknown): unknown {
  const { id: _, ...data } = member(body, 'data') as Fields
  return { ...(body as Fields), data }
}

/** Each kind of event that the legacy stream sent must come in the same framing, with at least the same members. */
function compareStreams(legacy: Answer, target: Answer, mode: Mode): Difference[] {
  const frames = target.frames ?? []
  const differences = (legacy.frames ?? []).flatMap((frame) => {
    const type = typeOf(frame)
    const where = `stream ${type}`
    const same = frames.find((candidate) => typeOf(candidate) === type)
    if (same === undefined) return compareValues(frame.data, undefined, where, mode)
    const naming = compareValues(nameOf(frame), nameOf(same), `${where} event name`, 'value')
    return [...naming, ...compareValues(frame.data, same.data, where, mode)]
  })
  const known = new Set((legacy.frames ?? []).map(typeOf))
  const added = frames.filter((frame) => !known.has(typeOf(frame)))
  return [
    ...differences,
    ...added.map((frame): Difference => {
      return { where: `stream ${typeOf(frame)}`, kind: 'added', legacy: undefined, target: frame.data }
    }),
  ]
}

function typeOf({ event, data }: Frame): string {
  return event ?? String(member(data, 'type') ?? 'message')
}

function nameOf({ event }: Frame): string {
  return event === undefined ? 'unnamed' : `named ${event}`
}

/** A header's text without differences that mean nothing. */
function spaced(text: string | undefined): string | undefined {
  return text?.toLowerCase().replaceAll(/\s*([,;])\s*/g, '$1 ')
}
