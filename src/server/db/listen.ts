import pg from 'pg'

/**
 * A connection of its own that listens for notifications and comes back when it breaks. It also tells when PostgreSQL
 * has stopped answering: a statement may take its time, but this connection has nothing else to do.
 */
export interface Listener {
  /** Makes a new connection at once: another server is used now, or PostgreSQL is known to be back. */
  renew(): void
  stop(): void
}

export interface ListenOptions {
  /** Asked each time a connection is made. */
  url: () => string
  channels: readonly string[]
  onNotification: (channel: string) => void
  /** Told each time listening starts again: notifications may have been missed meanwhile. */
  onConnected: () => void
  /**
   * Told each time it fails, and whether that is the first time of an outage. Behind PgBouncer in transaction mode
   * LISTEN never works, and polling carries on alone.
   */
  onError: (error: Error, first: boolean) => void
  /** Told when the connection stands, but a statement is not answered: everybody else is waiting in vain too. */
  onSilence: () => void
  /** How long a statement that asks for nothing may take, milliseconds. */
  silenceMs: number
  /** Milliseconds since anybody else in this process had an answer: a machine that is busy is not an outage. */
  heard: () => number
}

const RETRY_MS = 250
const PROBE_MS = 200

/** Starts listening in the background; never rejects, because a notification is only ever a hint. */
export function listen(options: ListenOptions): Listener {
  let client: pg.Client | undefined
  let timer: NodeJS.Timeout | undefined
  let probing: NodeJS.Timeout | undefined
  let stopped = false
  let down = false

  const probe = (on: pg.Client) => {
    const silent = () => {
      // What has arrived while this process was busy is read before it is judged.
      probing = setTimeout(() => {
        if (client !== on) return
        const left = options.silenceMs - options.heard()
        if (left > 0) {
          probing = setTimeout(silent, left)
          return
        }
        options.onSilence()
        retry(new Error('PostgreSQL does not answer'))
      }, 0)
    }
    probing = setTimeout(() => {
      probing = setTimeout(silent, options.silenceMs)
      on.query('SELECT 1').then(
        () => {
          if (client !== on || stopped) return
          clearTimeout(probing)
          probe(on)
        },
        () => {},
      )
    }, PROBE_MS)
  }

  const retry = (error: Error) => {
    const broken = client
    client = undefined
    clearTimeout(probing)
    if (broken !== undefined) breakOff(broken)
    if (stopped || timer !== undefined) return
    options.onError(error, !down)
    down = true
    timer = setTimeout(connect, RETRY_MS)
  }

  const connect = async () => {
    timer = undefined
    const fresh = new pg.Client({
      connectionString: options.url(),
      application_name: 'dualstore listen',
      keepAlive: true,
      connectionTimeoutMillis: 2000,
    })
    client = fresh
    fresh.on('error', (error) => client === fresh && retry(error))
    fresh.on('end', () => client === fresh && retry(new Error('the listening connection ended')))
    fresh.on('notification', (message) => options.onNotification(message.channel))
    try {
      await fresh.connect()
      for (const channel of options.channels) await fresh.query(`LISTEN ${pg.escapeIdentifier(channel)}`)
      down = false
      options.onConnected()
      if (client === fresh && !stopped) probe(fresh)
    } catch (error) {
      if (client === fresh) retry(error as Error)
    }
  }
  void connect()

  return {
    renew() {
      if (stopped) return
      clearTimeout(timer)
      clearTimeout(probing)
      if (client !== undefined) breakOff(client)
      void connect()
    },
    stop() {
      stopped = true
      clearTimeout(timer)
      clearTimeout(probing)
      const open = client
      client = undefined
      if (open !== undefined) breakOff(open)
    },
  }
}

/** Without a goodbye, which a server that is stuck would never answer. */
function breakOff(client: pg.Client): void {
  client.end().catch(() => {})
  const { stream } = (client as unknown as { connection: { stream: { destroy(): void } } }).connection
  stream.destroy()
}
