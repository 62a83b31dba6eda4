import pg from 'pg'

/** Writes that are held up at the change log. */
export interface Hold {
  /** Statements that wait for it. */
  waiting(): Promise<number>
  letGo(): Promise<void>
}

/** Holds up every write to a database at the change log until it is let go. */
export async function holdWrites(url: string): Promise<Hold> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query('BEGIN; SELECT dualstore.lock_log()')
  return {
    async waiting() {
      const { rows } = await client.query<{ count: number }>(
        `SELECT count(*)::int AS count FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      )
      return rows[0]?.count ?? 0
    },
    letGo: () => client.end(),
  }
}
