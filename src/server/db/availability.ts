import { type Breaker, createBreaker } from '../breaker.js'
import { DualstoreError } from '../errors.js'
import { findServer } from './probe.js'

/** Whether PostgreSQL serves at all, and whether it takes writes. */
export interface Availability {
  /** Open while no server can be reached: whoever asks is refused at once. */
  readonly reach: Breaker
  /** Open while the server is read-only. Nobody is refused by it: PostgreSQL does that itself, and reads go on. */
  readonly writes: Breaker
  /** Looks for the server to use. @throws when none can be reached. */
  find(): Promise<void>
  stop(): void
}

export interface AvailabilityOptions {
  urls: readonly string[]
  connectTimeoutMs: number
  /** Ends what waits for an answer that will not come; `all` with statements that may take their time. */
  breakConnections(all: boolean): void
  /** Every connection is replaced by one to this server. */
  renew(url: string): void
  /** It was away and is back. */
  returned(): void
  /** Where connections lead now. */
  current(): string
  /** True when PostgreSQL is not wanted any more. */
  ended(): boolean
  log(fields: object, message: string): void
}

/** Between two looks for a server that is away; short, because each is only a connection attempt. */
const AWAY_PAUSE_MS = 250
const READ_ONLY_PAUSE_MS = 1000

export function createAvailability(options: AvailabilityOptions): Availability {
  const { urls, connectTimeoutMs, breakConnections, renew, returned, current, ended, log } = options

  const find = async () => {
    if (ended()) return stop()
    const { url } = await findServer(urls, connectTimeoutMs)
    if (url === current()) return
    renew(url)
    log({}, 'another PostgreSQL server is used from now on')
  }
  const reach = createBreaker({
    pauseMs: AWAY_PAUSE_MS,
    probe: find,
    refuse: (cause) =>
      new DualstoreError('STORE_UNAVAILABLE', 'PostgreSQL is away; try again later', { cause }),
    onOpened(err) {
      log({ err }, 'PostgreSQL is away: writes are refused, reads come from the mirror')
      breakConnections(false)
    },
    onClosed() {
      log({}, 'PostgreSQL is back')
      returned()
    },
    // Silent on the connection that listens, and on a new one: even an index that is being built will not finish.
    onStillAway: () => breakConnections(true),
  })
  const writes = createBreaker({
    pauseMs: READ_ONLY_PAUSE_MS,
    async probe() {
      if (ended()) return stop()
      const { url, writable } = await findServer(urls, connectTimeoutMs)
      if (!writable) throw new Error('PostgreSQL is read-only: a standby, or default_transaction_read_only')
      // A session that was read-only stays so, and one to a former primary leads to the wrong server.
      renew(url)
    },
    refuse: (cause) => new DualstoreError('STORE_UNAVAILABLE', 'PostgreSQL is read-only', { cause }),
    onOpened: () => log({}, 'PostgreSQL is read-only: writes are refused, reads go on'),
    onClosed: () => log({}, 'PostgreSQL takes writes again'),
  })
  const stop = () => {
    reach.stop()
    writes.stop()
  }
  return { reach, writes, find, stop }
}
