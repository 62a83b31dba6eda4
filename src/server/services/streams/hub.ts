import { setImmediate as immediate } from 'node:timers/promises'
import { formatPosition } from '../../changes/position.js'
import { DualstoreError } from '../../errors.js'
import type { Log } from '../../followers/contract.js'
import type { Lost, Tail } from '../../followers/tail.js'
import type { Group, Hub, StreamClient } from './client.js'
import { controlFrame, PING } from './events.js'
import { createFrames } from './frames.js'

export interface HubOptions {
  tail: Tail
  heartbeatMs: number
  maxClients: number
  maxClientsPerOwner: number
  log: Log
  now: () => number
}

/** Written to before other work of the process gets its turn. */
const GROUP_SIZE = 500
const PING_MS = 15_000
const SWEEP_MS = 1000
/** A socket that has been full for so long belongs to a client that does not read. */
const STALLED_MS = 60_000
/** What clients are told to wait when this server closes, so that they do not come back all at once. */
const RETURN_MS: readonly [number, number] = [500, 3000]

/** All clients of the process: takes each step of the log to the groups, keeps quiet streams alive, counts. */
export function createHub({ tail, heartbeatMs, log, now, ...limits }: HubOptions) {
  const clients = new Set<StreamClient>()
  const owners = new Map<string, number>()
  /** By view; the last one of each may still have room. */
  const groups = new Map<string, Group[]>()
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

  const moveGroup = async (group: Group, to: number): Promise<void> => {
    while (group.position < to && group.members.size > 0) {
      const next = frames.next(group.view, group.position, to)
      const chunk = next instanceof Promise ? await next : next
      group.position = chunk.to
      if (chunk.bytes === undefined) continue
      for (const client of group.members) client.push(chunk.bytes)
    }
    group.position = Math.max(group.position, to)
  }

  /** Moves every group to where the tail is, again and again until there is nothing new. */
  const move = async (): Promise<void> => {
    if (moving) return
    while (!closed && tail.position !== undefined && tail.position > (position ?? -1)) {
      moving = true
      position = tail.position
      for (const group of [...groups.values()].flat()) {
        try {
          await moveGroup(group, position)
        } catch (err) {
          // Each on its own: it waits for the log or is told that it lost its place.
          log.debug({ err }, 'a group of streams is dissolved')
          for (const client of group.members) client.leave()
        }
        await immediate()
      }
      dropEmptyGroups()
      moving = false
      release()
      await immediate()
    }
    release()
  }

  const dropEmptyGroups = () => {
    for (const [key, list] of groups) {
      const kept = list.filter((group) => group.members.size > 0)
      if (kept.length === 0) groups.delete(key)
      else if (kept.length < list.length) groups.set(key, kept)
    }
  }

  const listener = {
    advanced: () => void move(),
    lost(reason: Lost) {
      position = undefined
      frames.clear()
      for (const client of clients) client.lost(reason)
      groups.clear()
    },
  }

  const heartbeat = async (): Promise<void> => {
    for (const group of [...groups.values()].flat()) {
      const at = formatPosition({ epoch: tail.epoch, seq: group.position })
      const bytes = Buffer.from(controlFrame(group.view, 'heartbeat', { position: at }, now()))
      for (const client of group.members) client.push(bytes)
      await immediate()
    }
  }

  const ping = async (): Promise<void> => {
    const bytes = Buffer.from(PING)
    let written = 0
    for (const client of [...clients]) {
      if (client.fullSince === undefined) client.push(bytes)
      if (++written % GROUP_SIZE === 0) await immediate()
    }
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
    groups.clear()
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
    join(client) {
      if (moving || position === undefined) return false
      const { view } = client
      const list = groups.get(view.key) ?? []
      groups.set(view.key, list)
      let group = list.at(-1)
      if (group === undefined || group.members.size >= GROUP_SIZE) {
        group = { view, position, members: new Set() }
        list.push(group)
      }
      group.members.add(client)
      client.joined(group)
      return true
    },
    moved: () => new Promise((resolve) => waiting.push(resolve)),
    forget(client) {
      if (!clients.delete(client)) return
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
