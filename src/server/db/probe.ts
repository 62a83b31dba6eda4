import pg from 'pg'

/** What a server can be used for. */
export interface Standing {
  /** One of the servers that a connection string names. */
  url: string
  /** False: a standby, or a server whose sessions are read-only by default. */
  writable: boolean
}

/**
 * Asks the servers, each on a connection of its own and all at once, and resolves to the first that takes writes, else
 * to one that can be read. A connection made anew resolves the server's name anew too.
 * @param limitMs How long a server may take to be connected, and then to answer.
 * @throws the error of the first server when none answers.
 */
export async function findServer(urls: readonly string[], limitMs: number): Promise<Standing> {
  const asked = urls.map((url) => ask(url, limitMs))
  const writable = asked.map(async (answer) => {
    const standing = await answer
    if (!standing.writable) throw new Error('read-only')
    return standing
  })
  try {
    return await Promise.any(writable)
  } catch {
    return await Promise.any(asked).catch((errors: AggregateError) => {
      throw errors.errors[0]
    })
  }
}

async function ask(url: string, limitMs: number): Promise<Standing> {
  const client = new pg.Client({
    connectionString: url,
    application_name: 'dualstore probe',
    connectionTimeoutMillis: limitMs,
    query_timeout: limitMs,
  })
  client.on('error', () => {})
  try {
    await client.connect()
    const { rows } = await client.query<{ writable: boolean }>(
      `SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off' AS writable`,
    )
    return { url, writable: rows[0]?.writable === true }
  } finally {
    // Not awaited: a server that is stuck would never say goodbye.
    client.end().catch(() => {})
  }
}
