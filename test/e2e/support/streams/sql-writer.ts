import { setTimeout as delay } from 'node:timers/promises'
import type { Pool } from '../../../../src/server/db/pool.js'
import type { Draw } from '../random.js'
import { COLLECTIONS, randomBody, randomHotId, randomId, SESSIONS } from './documents.js'
import type { WriteTally } from './writers.js'

export interface SqlWriterOptions {
  pool: Pool
  draw: Draw
  tally: WriteTally
  signal: AbortSignal
}

/** Writes as somebody at a psql prompt would: past the server, in transactions that stay open or are rolled back. */
export async function startSqlWriter({ pool, draw, tally, signal }: SqlWriterOptions): Promise<void> {
  while (!signal.aborted) {
    const client = await pool.connect()
    try {
      await client.query('BEGIN')
      for (let left = 1 + draw.below(3); left > 0; left--) await client.query(...statement(draw))
      // Holds the log's lock meanwhile: nobody may see what is behind it before.
      if (draw.chance(0.1)) await delay(draw.below(60))
      const rollback = draw.chance(0.2)
      await client.query(rollback ? 'ROLLBACK' : 'COMMIT')
      tally[rollback ? 'rolledBack' : 'sql']++
    } catch (error) {
      await client.query('ROLLBACK')
      // Rows in another order than the server's: PostgreSQL ends one of the two.
      if ((error as { code?: string }).code !== '40P01') throw error
      tally.rolledBack++
    } finally {
      client.release()
    }
    await delay(draw.below(20))
  }
}

function statement(draw: Draw): [string, unknown[]] {
  const collection = draw.from(COLLECTIONS)
  switch (draw.below(4)) {
    case 0: {
      const items = [...new Set(Array.from({ length: 5 }, () => randomId(draw)))].map((id) => {
        const now = new Date().toISOString()
        return { ...randomBody(draw, collection), id, created_at: now, updated_at: now }
      })
      return [
        `INSERT INTO dualstore.documents AS d (collection, id, item, created_at, updated_at)
         SELECT $1, i ->> 'id', i, t.ms, t.ms FROM jsonb_array_elements($2::jsonb) i,
           LATERAL (SELECT (extract(epoch FROM (i ->> 'created_at')::timestamptz) * 1000)::bigint AS ms) t
         ON CONFLICT (collection, id) DO UPDATE
         SET item = EXCLUDED.item || jsonb_build_object('created_at', d.item -> 'created_at')`,
        [collection, JSON.stringify(items)],
      ]
    }
    case 1:
      return [
        `UPDATE dualstore.documents SET item = item || $2::jsonb WHERE collection = $1 AND id < $3 AND item ->> 'session_id' = $4`,
        // Seldom the many large documents too, so that a single commit appends hundreds of changes.
        [
          collection,
          JSON.stringify({ n: draw.below(20) }),
          draw.chance(0.9) ? 'e' : 'm',
          draw.from(SESSIONS),
        ],
      ]
    case 2:
      return [
        `UPDATE dualstore.documents SET item = item - 'tag' WHERE collection = $1 AND id < $2`,
        [collection, randomHotId(draw)],
      ]
    default:
      return [
        'DELETE FROM dualstore.documents WHERE collection = $1 AND id = ANY ($2)',
        [collection, Array.from({ length: 4 }, () => randomId(draw))],
      ]
  }
}
