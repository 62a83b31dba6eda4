import { setImmediate as immediate } from 'node:timers/promises'
import { formatPosition } from '../../changes/position.js'
import { DualstoreError } from '../../errors.js'
import type { Log } from '../../followers/contract.js'
import type { Lost, Tail } from '../../followers/tail.js'
import type { Hub, StreamClient } from './client.js'
import { controlFrame, PING, type View } from './events.js'
import { createFrames } from './frames.js'
import { createRing } from './ring.js'

export interface HubOptions {
  tail: Tail
  heartbeatMs: number
  maxClients: number
  maxClientsPerOwner: number
  log: Log
  now: () => number
}

/** How long sockets are written to before other work of the process gets its turn. */
const TURN_MS = 2
const PING_MS = 15_000
const SWEEP_MS = 1000
/** A socket that has been full for so long belongs to a client that does not read. */
const STALLED_MS = 60_000
/** What clients are told to wait when this server closes, so that they do not come back all at once. */
const RETURN_MS: readonly [number, number] = [500, 3000]

/** All clients of the process: takes the log to those in the ring, keeps quiet streams alive, counts. */
export function createHub({ tail, heartbeatMs, log, now, ...limits }: HubOptions) {
  const clients = new Set<StreamClient>()
  const owners = new Map<string, number>()
  const ring = createRing()
  const frames = createFrames(tail)
  let position: number | undefined
  let moving = false
  let waiting: (() => void)[] = []
  let unfollow: (() => void) | undefined
  let timers: NodeJS.Timeout[] = []
  let closed = false

  const release = () => {
    const released = waiting
    waiting = []
    for (const resolve of released) resolve()
  }

  /** Sends a client all that there is at this moment, as far as it makes one write. */
  const advance = (client: StreamClient): void => {
    if (position === undefined || client.position >= position) return
    try {
      const chunk = frames.inMemory(client.view, client.position, position)
      // What is no longer in memory it has to read from the log, alone.
      if (chunk === undefined) {
        client.leave()
        return
      }
      client.advance(chunk)
      // There is more behind a full write, and others may have theirs first.
      if (client.position < position) ring.callAll()
    } catch (err) {
      log.debug({ err }, 'a stream has to go on alone')
      client.leave()
    }
  }

  /** Goes around until everybody has what the tail has. What it reads meanwhile goes on from where the ring is. */
  const move = async (): Promise<void> => {
    if (moving) return
    moving = true
    while (ring.called > 0) await inTurns(ring.takeCalled(), advance)
    moving = false
  }

  const listener = {
    advanced(to: number) {
      // Whoever waits for another log too, which may be as long as the last one was.
      release()
      if (to === position) return
      position = to
      ring.callAll()
      void move()
    },
    lost(reason: Lost) {
      position = undefined
      frames.clear()
      for (const client of clients) client.lost(reason)
    },
  }

  const heartbeat = async (): Promise<void> => {
    let view: View | undefined
    let at: number | undefined
    let bytes = Buffer.alloc(0)
    await inTurns(ring, (client) => {
      if (client.view !== view || client.position !== at) {
        view = client.view
        at = client.position
        const data = { position: formatPosition({ epoch: tail.epoch, seq: at }) }
        bytes = Buffer.from(controlFrame(view, 'heartbeat', data, now()))
      }
      client.push(bytes)
    })
  }

  const ping = (): Promise<void> => {
    const bytes = Buffer.from(PING)
    return inTurns(clients, (client) => {
      if (client.fullSince === undefined) client.push(bytes)
    })
  }

  const sweep = () => {
    for (const client of clients) {
      if (client.fullSince === undefined || now() - client.fullSince < STALLED_MS) continue
      log.info(
        { client: client.id, position: client.position },
        'closing a stream whose client does not read',
      )
      client.close('too_slow', RETURN_MS[0])
    }
  }

  const begin = () => {
    unfollow = tail.follow(listener)
    timers = [
      setInterval(() => void heartbeat(), heartbeatMs),
      setInterval(() => void ping(), PING_MS),
      setInterval(sweep, SWEEP_MS),
    ]
    for (const timer of timers) timer.unref()
  }

  const end = () => {
    for (const timer of timers) clearInterval(timer)
    timers = []
    unfollow?.()
    unfollow = undefined
    position = undefined
    // While nobody follows, the log may become another one unnoticed.
    frames.clear()
    release()
  }

  const hub: Hub = {
    frames,
    get epoch() {
      return tail.epoch
    },
    get position() {
      return position
    },
    now,
    head: () => tail.head(),
    join: (client) => ring.add(client),
    leave: (client) => ring.delete(client),
    moved: () => new Promise((resolve) => waiting.push(resolve)),
    forget(client) {
      if (!clients.delete(client)) return
      ring.delete(client)
      const count = (owners.get(client.owner) ?? 1) - 1
      if (count === 0) owners.delete(client.owner)
      else owners.set(client.owner, count)
      if (clients.size === 0) end()
    },
    failed(client, err) {
      const level = err instanceof DualstoreError && err.retryable ? 'warn' : 'error'
      log[level]({ err, client: client.id }, 'a stream ended with an error')
    },
  }

  return {
    hub,
    /** Clients whose socket takes nothing at the moment. */
    get slow() {
      let slow = 0
      for (const { fullSince } of clients) if (fullSince !== undefined) slow++
      return slow
    },
    get clients() {
      return clients.size
    },
    /** Counts a client in. @throws SHUTTING_DOWN, OVERLOADED, TOO_MANY_REQUESTS */
    add(client: StreamClient): void {
      const { owner } = client
      if (closed) throw new DualstoreError('SHUTTING_DOWN', 'this server is shutting down; try again')
      if (clients.size >= limits.maxClients) {
        throw new DualstoreError(
          'OVERLOADED',
          `this server has ${limits.maxClients} streams open, and no more`,
        )
      }
      if ((owners.get(owner) ?? 0) >= limits.maxClientsPerOwner) {
        throw new DualstoreError(
          'TOO_MANY_REQUESTS',
          `at most ${limits.maxClientsPerOwner} streams can be open at the same time`,
        )
      }
      clients.add(client)
      owners.set(owner, (owners.get(owner) ?? 0) + 1)
      if (unfollow === undefined) begin()
    },
    /** Ends every stream with an event that says where and when to come back. */
    close(): void {
      closed = true
      const [least, most] = RETURN_MS
      for (const client of [...clients]) {
        client.close('shutting_down', Math.round(least + Math.random() * (most - least)))
      }
    },
  }
}

/** Calls with each; other work of the process gets its turn every few milliseconds. */
async function inTurns<T>(items: Iterable<T>, call: (item: T) => void): Promise<void> {
  let began = performance.now()
  for (const item of items) {
    call(item)
    if (performance.now() - began < TURN_MS) continue
    await immediate()
    began = performance.now()
  }
}
