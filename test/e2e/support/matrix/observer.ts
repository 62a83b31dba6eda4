import { setTimeout as delay } from 'node:timers/promises'
import { readChanges } from '../../../../src/server/changes/read.js'
import type { Pool } from '../../../../src/server/db/pool.js'

/** Follows the log as a reader of its own, to find out whether one can be made to skip a position (I1). */
export interface Observer {
  /** Reads to the end, and resolves to the positions that it never saw although they are in the log. */
  skipped(): Promise<number[]>
}

const AT_ONCE = 1000
const PAUSE_MS = 5

/** Reads as fast as it can, so that it is close to the end of the log whenever something is committed. */
export function observeLog(pool: Pool): Observer {
  const seen = new Set<number>()
  let last = 0
  let ending = false
  const read = async (): Promise<number> => {
    const { changes } = await readChanges(pool, last, AT_ONCE)
    for (const { seq } of changes) seen.add(seq)
    last = changes.at(-1)?.seq ?? last
    return changes.length
  }
  const loop = async () => {
    while (!ending) {
      // PostgreSQL is away at times; the position is what counts then.
      await read().catch(() => {})
      await delay(PAUSE_MS)
    }
  }
  const running = loop()
  return {
    async skipped() {
      ending = true
      await running
      while ((await read()) > 0);
      const { rows } = await pool.query<{ seq: number }>('SELECT seq FROM dualstore.changes ORDER BY seq')
      return rows.map(({ seq }) => seq).filter((seq) => !seen.has(seq))
    },
  }
}
