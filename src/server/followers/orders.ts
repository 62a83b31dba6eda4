import { type Hints, MIRRORS_CHANNEL } from '../changes/hints.js'
import type { Pool } from '../db/pool.js'
import { sharedReading } from '../db/shared-reading.js'
import { readOrders, type StoredOrders } from '../store/orders.js'

/** What an operator wants of a follower, as far as this process knows. */
export interface Orders {
  /** Why it is to stand still: "is paused", "is lost: …"; undefined when it is to run. */
  readonly halted: string | undefined
  /** The id of the rebuild that is to be done. */
  readonly rebuild: string | undefined
  onChange(listener: () => void): void
  /** Starts looking at them in the background. */
  run(): void
  stop(): void
}

/** They stand in PostgreSQL. A notification tells of new ones at once; without it they are seen within this time. */
const POLL_MS = 1000

export function createOrders({ pool, id, hints }: { pool: Pool; id: string; hints: Hints }): Orders {
  const listeners: (() => void)[] = []
  let stored: StoredOrders | undefined
  let timer: NodeJS.Timeout | undefined
  let unsubscribe: () => void = () => {}

  const look = sharedReading(async () => {
    const before = stored
    stored = (await readOrders(pool, id)) ?? stored
    if (stored?.state === before?.state && stored?.rebuild === before?.rebuild) return
    for (const listener of listeners) listener()
  })
  // During an outage what was ordered last still holds.
  const refresh = () => void look().catch(() => {})

  return {
    get halted() {
      return stored === undefined ? undefined : haltedBy(stored)
    },
    get rebuild() {
      return stored?.rebuild ?? undefined
    },
    onChange: (listener) => void listeners.push(listener),
    run() {
      refresh()
      timer = setInterval(refresh, POLL_MS)
      unsubscribe = hints.on(MIRRORS_CHANNEL, refresh)
    },
    stop() {
      clearInterval(timer)
      unsubscribe()
    },
  }
}

function haltedBy({ state, state_reason: reason }: StoredOrders): string | undefined {
  if (state === 'running') return undefined
  const told = state === 'lost' ? 'is lost and must be rebuilt' : 'is paused'
  return reason === null ? told : `${told}: ${reason}`
}
