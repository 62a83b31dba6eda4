import pg from 'pg'

/**
 * A connection of its own that listens for notifications and comes back when it breaks. It also tells when PostgreSQL
 * has stopped answering: a statement may take its time, but this connection has nothing else to do.
 */
export interface Listener {
  stop(): Promise<void>
}

export interface ListenOptions {
  url: string
  channels: readonly string[]
  onNotification: (channel: string) => void
  /** Told each time listening starts again: notifications may have been missed meanwhile. */
  onConnected: () => void
  /** Told once per outage. Behind PgBouncer in transaction mode LISTEN never works, and polling carries on alone. */
  onError: (error: Error) => void
  /** Told when the connection stands, but a statement is not answered: everybody else is waiting in vain too. */
  onSilence: () => void
}

const RETRY_MS = 1000
const PROBE_MS = 1000
const PROBE_LIMIT_MS = 1500

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
        options.onSilence()
        retry(new Error('PostgreSQL does not answer'))
      }, 0)
    }
    probing = setTimeout(() => {
      probing = setTimeout(silent, PROBE_LIMIT_MS)
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
    broken?.end().catch(() => {})
    if (stopped || timer !== undefined) return
    if (!down) options.onError(error)
    down = true
    timer = setTimeout(connect, RETRY_MS)
  }

  const connect = async () => {
    timer = undefined
    const fresh = new pg.Client({
      connectionString: options.url,
      application_name: 'dualstore listen',
      keepAlive: true,
      connectionTimeoutMillis: 2000,
    })
    client = fresh
    fresh.on('error', retry)
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
    async stop() {
      stopped = true
      clearTimeout(timer)
      clearTimeout(probing)
      const open = client
      client = undefined
      await open?.end().catch(() => {})
    },
  }
}
