import { formatPosition } from '../changes/position.js'
import { readHead } from '../changes/read.js'
import type { Pool } from '../db/pool.js'
import { DualstoreError } from '../errors.js'
import { MIRROR_FOLLOWER } from '../followers/mirror.js'
import type { MirrorStatus, Overview } from '../schemas/mirrors.js'
import { readMirror, type StoredMirror } from '../store/mirrors.js'
import { ensureFollower } from '../store/positions.js'

/** A leader reports every second. After this many milliseconds without, its rates tell nothing about now. */
const FRESH_MS = 5000

export type OverviewService = ReturnType<typeof createOverview>

/** How the mirrors stand. It reads PostgreSQL alone, so every process that reaches it gives the same answer. */
export function createOverview(pool: Pool) {
  return {
    async read(): Promise<Overview> {
      const { epoch, position, floor } = await readHead(pool)
      const stored = await readMirror(pool, MIRROR_FOLLOWER)
      return {
        head: formatPosition({ epoch, seq: position }),
        floor: formatPosition({ epoch, seq: floor }),
        mirrors: stored === undefined ? [] : [statusOf(MIRROR_FOLLOWER, stored)],
      }
    },

    /** @throws NOT_FOUND */
    async mirror(name: string): Promise<MirrorStatus> {
      return statusOf(name, await requireStored(pool, name))
    },
  }
}

/** The mirror of this name as it is stored, from before its first server on. @throws NOT_FOUND */
export async function requireStored(pool: Pool, name: string): Promise<StoredMirror> {
  if (name === MIRROR_FOLLOWER) {
    await ensureFollower(pool, name)
    const stored = await readMirror(pool, name)
    if (stored !== undefined) return stored
  }
  throw new DualstoreError('NOT_FOUND', `there is no mirror "${name}"; the only one is "${MIRROR_FOLLOWER}"`)
}

/** What is stored, for people and programs. */
export function statusOf(name: string, stored: StoredMirror): MirrorStatus {
  const { epoch, head, position, rebuild } = stored
  const changes = Math.max(0, head - position)
  const fresh = stored.led && stored.report_age_ms !== null && stored.report_age_ms < FRESH_MS
  const applied = fresh ? stored.applied_per_s : null
  const written = fresh ? stored.written_per_s : null
  const seconds = (ms: number) => Math.round(ms) / 1000
  return {
    name,
    kind: stored.kind,
    ...stateOf(stored),
    since: stored.state_since.toISOString(),
    by: stored.state_by,
    position: formatPosition({ epoch, seq: position }),
    head: formatPosition({ epoch, seq: head }),
    lag: { changes, seconds: changes === 0 ? 0 : seconds(stored.lag_ms ?? 0) },
    rate: { applied: rounded(applied), written: rounded(written) },
    catch_up_seconds: catchUp(changes, applied, written),
    heartbeat:
      stored.reported_at === null || stored.report_age_ms === null
        ? null
        : { at: stored.reported_at.toISOString(), age_seconds: seconds(Math.max(0, stored.report_age_ms)) },
    leader:
      stored.leader === null || !stored.led
        ? null
        : {
            instance: stored.leader,
            host: stored.host,
            term: stored.term,
            lease_until: stored.lease_until.toISOString(),
          },
    last_error:
      stored.latest_error === null || stored.latest_error_at === null
        ? null
        : { message: stored.latest_error, at: stored.latest_error_at.toISOString() },
    parked: stored.parked,
    rebuild: rebuild === null ? null : rebuildOf(rebuild, epoch),
  }
}

/** What an operator ordered comes first, then what keeps it from being done. */
function stateOf(stored: StoredMirror): Pick<MirrorStatus, 'state' | 'reason'> {
  if (stored.state !== 'running') return { state: stored.state, reason: stored.state_reason }
  if (stored.last_error !== null) return { state: 'down', reason: stored.last_error }
  if (!stored.led) return { state: 'down', reason: 'no server leads it: is one running, with its mirror on?' }
  if (stored.rebuild !== null && stored.rebuild.finished_at === null) {
    return { state: 'rebuilding', reason: null }
  }
  return { state: 'running', reason: null }
}

/** Seconds until nothing is left to apply at the present rates; null when it falls behind, or nobody can tell. */
function catchUp(changes: number, applied: number | null, written: number | null): number | null {
  if (changes === 0) return 0
  if (applied === null || written === null || applied <= written) return null
  return Math.ceil(changes / (applied - written))
}

function rebuildOf(rebuild: NonNullable<StoredMirror['rebuild']>, epoch: string): MirrorStatus['rebuild'] {
  const { id, from, phase, collection, written, removed, retried, refused, total } = rebuild
  const { requested_by, requested_at, started_at, finished_at } = rebuild
  return {
    id,
    from: formatPosition({ epoch, seq: from }),
    phase: finished_at === null ? phase : 'done',
    collection,
    ...{ written, removed, retried, refused, total },
    ...{ requested_by, requested_at, started_at, finished_at },
  }
}

function rounded(rate: number | null): number | null {
  return rate === null ? null : Math.round(rate * 10) / 10
}
