import { setTimeout as delay } from 'node:timers/promises'
import { createRandom } from './random.js'

/** What a document may hold: the marker of the write that made it so, or null when it does not exist. */
type State = string | null

/** How far the writers are, and what they hold against the server. */
export interface Tally {
  acknowledged: number
  /** Requests whose connection broke: they may or may not have been written. */
  unknown: number
  /** Answers with 503. */
  refused: number
  violations: string[]
}

export interface WritersOptions {
  seed: number
  clients: number
  documentsPerClient: number
  /** Acknowledged writes after which the writers end. */
  writes: number
  /** The server's address; waits while it is being started again. */
  url(): Promise<string>
  /** Called with each acknowledgement. */
  onAcknowledged(count: number): void
}

export interface Writers {
  tally: Tally
  /** Ends when all writes are acknowledged. */
  done: Promise<void>
  /** Whether a stored state can be explained by what was acknowledged and what was in flight behind it. */
  allows(id: string, state: State): boolean
  ids(): string[]
  expected(id: string): string
}

const COLLECTION = 'session_messages'
const REQUEST_LIMIT_MS = 20_000
/** How long a client that was refused waits before it asks again. */
const REFUSED_MS = 20

/**
 * Clients that each write documents of their own, one request after the other, and know from the answers what each
 * document must hold: the last acknowledged write, or one whose answer never came and that was sent behind it.
 */
export function startWriters(options: WritersOptions): Writers {
  const states = new Map<string, Set<State>>()
  const tally: Tally = { acknowledged: 0, unknown: 0, refused: 0, violations: [] }
  let sent = 0

  const client = async (number: number): Promise<void> => {
    const random = createRandom(options.seed * 1000 + number)
    while (tally.acknowledged < options.writes) {
      const id = `c${number}-${Math.floor(random() * options.documentsPerClient)}`
      const possible = states.get(id) ?? new Set<State>([null])
      states.set(id, possible)
      await write(await options.url(), id, possible, random())
    }
  }

  const write = async (url: string, id: string, possible: Set<State>, choice: number): Promise<void> => {
    const marker = `m${++sent}`
    const exists = !possible.has(null)
    const absent = possible.size === 1 && possible.has(null)
    const method =
      choice < 0.3 && !exists ? 'POST' : choice < 0.6 ? 'PUT' : choice < 0.85 ? 'PATCH' : 'DELETE'
    const outcome: State = method === 'DELETE' ? null : marker
    const answer = await request(url, method, id, marker)
    if (answer === undefined) {
      tally.unknown++
      possible.add(outcome)
      return
    }
    const { status, body } = answer
    const only = (...kept: State[]) => {
      possible.clear()
      for (const state of kept) possible.add(state)
    }
    const object = (what: string) =>
      tally.violations.push(`${method} ${id}: ${what} although it may hold ${[...possible]}: ${body}`)
    if (status === 503) {
      tally.refused++
      await delay(REFUSED_MS)
      // A connection to PostgreSQL that broke does not tell whether the statement was committed.
      possible.add(outcome)
    } else if (status === 404 && (method === 'PATCH' || method === 'DELETE')) {
      if (!possible.has(null)) object('it is gone')
      only(null)
    } else if (status === 409 && method === 'POST') {
      if (absent) object('it exists')
      possible.delete(null)
    } else if (status === 200 || status === 201) {
      if (absent && status === 200) object('it existed')
      if (exists && status === 201) object('it was created')
      only(outcome)
      options.onAcknowledged(++tally.acknowledged)
    } else {
      object(`answered with ${status}`)
    }
  }

  const request = async (url: string, method: string, id: string, marker: string) => {
    const path = `${url}/api/v1/${COLLECTION}${method === 'POST' ? '' : `/${id}`}`
    const whole = {
      session_id: 's',
      role: 'user',
      content: marker,
      metadata: { marker, nested: [1, null, { a: 'ä' }] },
    }
    const body =
      method === 'DELETE'
        ? undefined
        : JSON.stringify(
            method === 'PATCH'
              ? { content: marker, metadata: { marker } }
              : method === 'POST'
                ? { id, ...whole }
                : whole,
          )
    try {
      const answer = await fetch(path, {
        method,
        ...(body !== undefined && { body, headers: { 'content-type': 'application/json' } }),
        signal: AbortSignal.timeout(REQUEST_LIMIT_MS),
      })
      return { status: answer.status, body: await answer.text() }
    } catch {
      return undefined
    }
  }

  const done = Promise.all(Array.from({ length: options.clients }, (_, number) => client(number))).then(
    () => {},
  )
  return {
    tally,
    done,
    allows: (id, state) => (states.get(id) ?? new Set([null])).has(state),
    ids: () => [...states.keys()],
    expected: (id) => [...(states.get(id) ?? [])].join(' or '),
  }
}
