import { setTimeout as delay } from 'node:timers/promises'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import type { Draw } from '../random.js'
import type { Item } from './documents.js'
import type { Interest } from './interest.js'
import { numberOf, Snapshot, type Stretch } from './recording.js'
import { bogusPosition, read, target } from './stream-request.js'

/** What all clients of a run did, counted together. */
export interface ClientTally {
  connects: number
  /** Connections that a client broke, and that broke under it. */
  dropped: number
  broken: number
  /** Reads that were held back for a while. */
  pauses: number
  /** Streams that the server refused for a while (503). */
  refused: number
  snapshots: number
  /** Resets that were asked for by a position that is none, and were told so. */
  resets: number
  /** Streams that ended with `close`. */
  closes: number
  polls: number
}

export const newTally = (): ClientTally => ({
  connects: 0,
  dropped: 0,
  broken: 0,
  pauses: 0,
  refused: 0,
  snapshots: 0,
  resets: 0,
  closes: 0,
  polls: 0,
})

export interface ClientOptions {
  interest: Interest
  draw: Draw
  tally: ClientTally
  /** The address of any instance. */
  url(): string
  /** Called with what contradicts the contract at once. */
  onFault(fault: string): void
}

export interface RecordingClient {
  interest: Interest
  stretches: readonly Stretch[]
  /** Resolves when the server has told this client that it has everything up to `position`. */
  reached(position: number): Promise<void>
  /** Ends it. From here on no more is recorded. */
  stop(): Promise<void>
}

const RETRY_MS = 50

interface Data {
  type: string
  collection: string
  data: Item & { position?: string; reason?: string }
  timestamp: string
  version: number
  position: string
  snapshot?: boolean
}

/**
 * Follows one interest over raw server-sent events, breaks the connection at random and comes back to any instance,
 * as a client that keeps only what it was told last.
 */
export function startStreamClient(options: ClientOptions): RecordingClient {
  const { interest, draw, tally, onFault } = options
  const stretches: Stretch[] = []
  const stopping = new AbortController()
  const waiting: { position: number; resolve(): void }[] = []
  /** The last position this client was told, as a text; it comes back with it. */
  let last: string | undefined
  let current: Stretch = { start: undefined, told: [], claims: [] }
  let epoch = 'none'

  const begin = (start: number | undefined): Stretch => {
    current = { start, told: [], claims: [] }
    stretches.push(current)
    return current
  }

  const claim = (position: string) => {
    const number = numberOf(position)
    current.claims.push({ position: number, count: current.told.length })
    if (last === undefined || numberOf(last) <= number) last = position
    for (const one of waiting.filter((one) => one.position <= number)) {
      waiting.splice(waiting.indexOf(one), 1)
      one.resolve()
    }
  }

  /** One connection; resolves when it has ended, whoever ended it. */
  const connect = async (): Promise<void> => {
    const bogus = last !== undefined && draw.chance(0.03) ? bogusPosition(draw, epoch) : undefined
    const { url, headers } = target(options, { last, bogus })
    let snapshot =
      interest.snapshot && (last === undefined || bogus !== undefined) ? new Snapshot() : undefined
    if (last === undefined || bogus !== undefined) begin(undefined)
    let resetDue = bogus?.reason
    if (bogus !== undefined) last = undefined
    let first = true

    const onEvent = ({ event, data: text, id }: EventSourceMessage) => {
      const data = JSON.parse(text) as Data
      if (event !== data.type) onFault(`event ${event} has the type ${data.type}`)
      if (first !== (event === 'connection')) onFault(`${event} comes ${first ? 'first' : 'later'}`)
      first = false
      if (resetDue !== undefined && event !== 'connection') {
        if (event !== 'reset' || data.data.reason !== resetDue)
          onFault(`${text} although ${bogus?.position} is ${resetDue}`)
        resetDue = undefined
      } else if (event === 'reset') onFault(`reset without need: ${text}`)
      switch (event) {
        case 'connection':
          tally.connects++
          break
        case 'reset':
          tally.resets++
          if (snapshot === undefined) current.start = numberOf(data.data.position ?? '')
          break
        case 'insert':
        case 'update':
        case 'delete':
          if (id === undefined) {
            if (snapshot === undefined) onFault(`a change without an id outside of a snapshot: ${text}`)
            snapshot?.apply(data)
            break
          }
          if (snapshot !== undefined) onFault(`a change with an id before the snapshot was ready: ${text}`)
          if (id !== data.position) onFault(`id ${id}, position ${data.position}`)
          current.told.push({ ...data, position: numberOf(id) })
          last = id
          epoch = id.slice(0, id.indexOf('-'))
          break
        case 'ready':
        case 'heartbeat':
          if (data.data.position === undefined) onFault(`${event} without a position: ${text}`)
          if (snapshot !== undefined) {
            if (event === 'heartbeat') break
            tally.snapshots++
            for (const fault of snapshot.faults) onFault(fault)
            current.start = numberOf(data.data.position ?? '')
            current.snapshot = { position: current.start, items: snapshot.items }
            snapshot = undefined
          }
          current.start ??= numberOf(data.data.position ?? '')
          claim(data.data.position ?? '')
          break
        case 'close':
          tally.closes++
          last = data.data.position ?? last
          break
        default:
          onFault(`an event of an unknown kind: ${event}`)
      }
      if (id !== undefined && event !== 'insert' && event !== 'update' && event !== 'delete')
        onFault(`${event} has the id ${id}`)
    }
    const parser = createParser({
      onEvent,
      onError: (error) => onFault(`not to be parsed: ${error.message}`),
    })

    const feed = (text: string) => {
      try {
        parser.feed(text)
      } catch (error) {
        onFault(`not understood: ${String(error)}`)
      }
    }
    // A snapshot that is taken slowly is one in which much changes meanwhile.
    const pauseShare = () => (snapshot === undefined ? 0.003 : 0.03)
    await read(options, { url, headers, signal: stopping.signal, pauseShare, feed })
    // A snapshot that broke off begins anew; so does a stretch that was never told where it starts.
    if (snapshot !== undefined || (current.start === undefined && current.told.length === 0)) {
      last = undefined
      stretches.splice(stretches.indexOf(current), 1)
    }
  }

  const run = async () => {
    while (!stopping.signal.aborted) {
      await connect()
      if (!stopping.signal.aborted) await delay(draw.below(RETRY_MS))
    }
  }
  const running = run()
  running.catch(() => {})
  return {
    interest,
    stretches,
    reached: (position) =>
      Promise.race([
        new Promise<void>((resolve) => {
          if ((current.claims.at(-1)?.position ?? -1) >= position) resolve()
          else waiting.push({ position, resolve })
        }),
        running.then(() => Promise.reject(new Error('the client has stopped'))),
      ]),
    stop: async () => {
      stopping.abort()
      await running
    },
  }
}
