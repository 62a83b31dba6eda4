import { setTimeout as delay } from 'node:timers/promises'
import { type Hints, MIRRORS_CHANNEL } from '../changes/hints.js'
import { formatPosition, parsePosition } from '../changes/position.js'
import type { Pool } from '../db/pool.js'
import { DualstoreError, invalid } from '../errors.js'
import type { Log } from '../followers/contract.js'
import type { MirrorStatus, Moved } from '../schemas/mirrors.js'
import type { StoredMirror } from '../store/mirrors.js'
import { isAtRest, movePosition, pauseFollower, resumeFollower } from '../store/orders.js'
import { requestRebuild } from '../store/rebuilds.js'
import { requireStored, statusOf } from './overview.js'
import type { Access } from './principal.js'

export interface MoveRequest {
  /** Where to go on from: `<epoch>-<number>`. */
  position: string
  /** Must repeat the mirror's name. */
  confirm?: string | undefined
  /** Go forward although changes are skipped by it. */
  force?: boolean | undefined
}

export type MirrorControl = ReturnType<typeof createMirrorControl>

/** How long a paused mirror's leader may take to finish what it has in hand before a position cannot be set. */
const REST_MS = 5000
const REST_POLL_MS = 50

/**
 * What an operator orders of a mirror. Orders stand in PostgreSQL and outlive restarts; whoever leads the mirror obeys,
 * whichever process was asked.
 * @returns each call the mirror as it stands afterwards.
 * @throws NOT_FOUND for a mirror that does not exist.
 */
export function createMirrorControl({ pool, hints, log }: { pool: Pool; hints: Hints; log: Log }) {
  const told = async (name: string, access: Access, message: string, more: object = {}) => {
    hints.tell(MIRRORS_CHANNEL)
    const { principal, address } = access
    log.warn({ mirror: name, by: principal.id, address, ...more }, message)
    return statusOf(name, await requireStored(pool, name))
  }

  return {
    /** Changes wait in the log from now on. @throws CONFLICT when it is lost. */
    async pause(name: string, reason: string | undefined, access: Access): Promise<MirrorStatus> {
      await requireStored(pool, name)
      const order = { by: access.principal.id, reason: reason ?? null }
      if (!(await pauseFollower(pool, name, order))) throw lost(name)
      return told(name, access, 'a mirror is paused', { reason })
    },

    /** @throws CONFLICT when it is lost. */
    async resume(name: string, access: Access): Promise<MirrorStatus> {
      await requireStored(pool, name)
      if (!(await resumeFollower(pool, name, access.principal.id))) throw lost(name)
      return told(name, access, 'a mirror is resumed')
    },

    /**
     * Orders that the mirror be built anew, and lets it run; a server does it in the background.
     * @throws CONFLICT when it is being rebuilt and `restart` does not say to begin again.
     */
    async rebuild(
      name: string,
      { restart = false }: { restart?: boolean },
      access: Access,
    ): Promise<MirrorStatus> {
      await requireStored(pool, name)
      if (!(await requestRebuild(pool, name, { by: access.principal.id, restart }))) {
        throw new DualstoreError('CONFLICT', `${name} is being rebuilt already; restart begins again`)
      }
      return told(name, access, 'a mirror is to be rebuilt', { restart })
    },

    /**
     * Lets a paused mirror go on from another place of the log.
     * @throws INVALID_REQUEST for a position that is not of this log; POSITION_GONE when the log no longer reaches back
     * to it; CONFLICT when it is not paused, or would skip changes and `force` is missing; CONFIRMATION_REQUIRED with
     * what would happen.
     */
    async setPosition(name: string, request: MoveRequest, access: Access): Promise<Moved> {
      const stored = await requireStored(pool, name)
      const to = requireUsable(request.position, stored)
      const from = stored.position
      const skipped = Math.max(0, Math.min(to, stored.head) - from)
      const replayed = Math.max(0, Math.min(from, stored.head) - to)
      if (stored.state === 'lost') throw lost(name)
      if (stored.state !== 'paused') {
        throw new DualstoreError('CONFLICT', `${name} is not paused: pause it before its position is set`)
      }
      if (skipped > 0 && !request.force) {
        throw new DualstoreError('CONFLICT', `${skipped} changes would be skipped; force skips them`, {
          extra: { skipped, replayed },
        })
      }
      if (request.confirm !== name) throw unconfirmed(name, { skipped, replayed })
      for (const deadline = Date.now() + REST_MS; !(await isAtRest(pool, name)); await delay(REST_POLL_MS)) {
        if (Date.now() > deadline) throw new DualstoreError('CONFLICT', `${name} is still at work; try again`)
      }
      if (!(await movePosition(pool, name, from, to))) {
        throw new DualstoreError('CONFLICT', `${name} has moved or was resumed meanwhile; look and try again`)
      }
      const moved = {
        from: formatPosition({ epoch: stored.epoch, seq: from }),
        to: request.position,
        skipped,
        replayed,
      }
      const mirror = await told(name, access, "a mirror's position is set", moved)
      return { ...moved, mirror }
    },
  }
}

function requireUsable(position: string, { epoch, head, floor }: StoredMirror): number {
  const parsed = parsePosition(position)
  if (parsed?.epoch !== epoch)
    throw invalid('body.position', `must be a position of this log, such as ${epoch}-42`)
  if (parsed.seq > head) throw invalid('body.position', `must not be behind the log's end, ${epoch}-${head}`)
  if (parsed.seq >= floor) return parsed.seq
  throw new DualstoreError('POSITION_GONE', `the log begins behind ${epoch}-${floor}; a rebuild needs no log`)
}

function unconfirmed(
  name: string,
  { skipped, replayed }: { skipped: number; replayed: number },
): DualstoreError {
  const effect =
    skipped > 0 ? `${skipped} changes would be skipped` : `${replayed} changes would be applied again`
  return new DualstoreError('CONFIRMATION_REQUIRED', `confirm must be "${name}": ${effect}`, {
    details: [{ field: 'body.confirm', message: `must be "${name}"` }],
    extra: { skipped, replayed },
  })
}

function lost(name: string): DualstoreError {
  return new DualstoreError('CONFLICT', `${name} is lost: the log lacks changes that it needs; rebuild it`)
}
