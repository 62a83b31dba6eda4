import { setTimeout as delay } from 'node:timers/promises'
import { createRandom } from '../random.js'
import { Connection, type LoadAnswer } from './connection.js'

export interface MixedLoad {
  url: string
  clients: number
  /** Requests a second of all clients together; as fast as they are answered without it. */
  rate?: number
  signal: AbortSignal
}

/** Requests of one kind. */
export interface Kind {
  count: number
  /** Milliseconds of each, thinned out evenly when there are many. */
  times: number[]
}

export interface MixedResult {
  kinds: Record<string, Kind>
  /** Answers by status. */
  statuses: Record<number, number>
}

const COLLECTION = '/api/v1/session_messages'
const KEPT_TIMES = 100_000
/** Documents of one client: written, read, changed and deleted, so that the collection does not grow without end. */
const OWN = 50

/** What clients do, by its share: mostly reading, some lists, and writes of every kind. */
const SHARES = { get: 0.6, list: 0.1, create: 0.15, patch: 0.1, delete: 0.05 }

/** Clients that read, list, write, change and delete documents of their own until the signal comes. */
export async function mixedLoad({ url, clients, rate, signal }: MixedLoad): Promise<MixedResult> {
  const result: MixedResult = { kinds: {}, statuses: {} }
  const note = (kind: string, { status, ms }: LoadAnswer) => {
    result.statuses[status] = (result.statuses[status] ?? 0) + 1
    result.kinds[kind] ??= { count: 0, times: [] }
    const { times, count } = result.kinds[kind]
    if (times.length < KEPT_TIMES) times.push(ms)
    else times[count % KEPT_TIMES] = ms
    result.kinds[kind].count++
  }
  const client = async (number: number): Promise<void> => {
    const random = createRandom(number + 1)
    const connection = new Connection(url)
    const ids: string[] = []
    let next = 0
    const create = async () => {
      const id = `load-${process.pid}-${number}-${next++}`
      const body = JSON.stringify({
        id,
        session_id: `ses_${number % 100}`,
        role: 'user',
        content: 'x'.repeat(400),
      })
      note('create', await connection.send('POST', COLLECTION, body))
      ids.push(id)
    }
    // Not all at the same moment.
    await delay(random() * (rate === undefined ? 0 : (clients / rate) * 1000))
    while (!signal.aborted) {
      const began = performance.now()
      const id = ids[Math.floor(random() * ids.length)]
      const kind = chosen(random())
      if (id === undefined || (kind === 'create' && ids.length < OWN)) await create()
      else if (kind === 'list') {
        const path = `${COLLECTION}?session_id=ses_${number % 100}&limit=20`
        note(kind, await connection.send('GET', path))
      } else if (kind === 'patch') {
        const body = JSON.stringify({ content: `changed ${random()}` })
        note(kind, await connection.send('PATCH', `${COLLECTION}/${id}`, body))
      } else if (kind === 'delete' || kind === 'create') {
        note('delete', await connection.send('DELETE', `${COLLECTION}/${id}`))
        ids.splice(ids.indexOf(id), 1)
      } else note(kind, await connection.send('GET', `${COLLECTION}/${id}`))
      if (rate === undefined) continue
      const left = (clients / rate) * 1000 - (performance.now() - began)
      if (left > 0) await delay(left)
    }
    connection.close()
  }
  await Promise.all(Array.from({ length: clients }, (_, number) => client(number)))
  return result
}

function chosen(at: number): keyof typeof SHARES {
  let upTo = 0
  for (const [kind, share] of Object.entries(SHARES)) {
    upTo += share
    if (at < upTo) return kind as keyof typeof SHARES
  }
  return 'get'
}
