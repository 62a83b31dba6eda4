import { isDeepStrictEqual } from 'node:util'
import { openPool, type Pool } from '../../../src/server/db/pool.js'
import type { Mirror } from '../../../src/server/mirror/contract.js'
import type { Item } from '../../../src/server/schemas/item.js'
import { shippedCollections } from '../../../src/server/schemas/shipped-collections.js'
import type { Writers } from './writers.js'

/** A pool that takes its time, to look at what a run has left. */
export function comparisonPool(url: string): Pool {
  return openPool({
    url,
    size: 2,
    connectTimeoutMs: 5000,
    statementTimeoutMs: 60_000,
    applicationName: 'comparison',
    onIdleError: () => {},
  })
}

/**
 * Holds what is stored against what was acknowledged (I3), the mirror against PostgreSQL, document by document (I4),
 * and the mirror's position against the log. Nobody may write meanwhile.
 */
export async function compareStores(
  pool: Pool,
  mirror: Mirror,
  writers: Writers,
): Promise<{ documents: number; changes: number; violations: string[] }> {
  const definition = shippedCollections.find(({ name }) => name === 'session_messages')!
  const violations: string[] = []
  const { rows } = await pool.query<{ id: string; version: number; item: Item }>(
    'SELECT id, version, item FROM dualstore.documents WHERE collection = $1',
    [definition.name],
  )
  const stored = new Map(rows.map((row) => [row.id, row]))
  for (const id of writers.ids()) {
    const state = stored.get(id)?.item.content ?? null
    if (!writers.allows(id, state as string | null)) {
      violations.push(`${id} holds ${state}, and should hold ${writers.expected(id)}`)
    }
  }
  let mirrored = 0
  for await (const { item, version } of mirror.scan(definition)) {
    mirrored++
    const row = stored.get(item.id)
    if (row === undefined) violations.push(`the mirror still has ${item.id}`)
    else if (row.version !== version || !isDeepStrictEqual(row.item, item))
      violations.push(`${item.id} in the mirror is version ${version}, in PostgreSQL ${row.version}`)
  }
  if (mirrored !== rows.length) violations.push(`mirror: ${mirrored} documents, PostgreSQL: ${rows.length}`)
  const { changes, position, parked } = await positions(pool)
  if (position !== changes) violations.push(`the mirror's position is ${position}, the log's head ${changes}`)
  if (parked > 0) violations.push(`${parked} documents are parked`)
  return { documents: rows.length, changes, violations }
}

async function positions(pool: Pool): Promise<{ changes: number; position: number; parked: number }> {
  const { rows } = await pool.query<{ changes: number; position: number; parked: number }>(
    `SELECT (SELECT max(seq) FROM dualstore.changes) AS changes,
       (SELECT position FROM dualstore.followers WHERE id = 'mirror') AS position,
       (SELECT count(*) FROM dualstore.parked) AS parked`,
  )
  return rows[0]!
}
