import { setTimeout as delay } from 'node:timers/promises'
import { type Hints, MIRRORS_CHANNEL } from '../changes/hints.js'
import { formatPosition, parsePosition } from '../changes/position.js'
import type { Pool, Queryable } from '../db/pool.js'
import { transaction } from '../db/transaction.js'
import { DualstoreError, invalid } from '../errors.js'
import type { Log } from '../followers/contract.js'
import type { MirrorStatus, Moved } from '../schemas/mirrors.js'
import type { AuditAction } from '../store/audit.js'
import type { StoredMirror } from '../store/mirrors.js'
import { isAtRest, movePosition, pauseFollower, resumeFollower } from '../store/orders.js'
import { requestRebuild } from '../store/rebuilds.js'
import { recordAudit } from './audit.js'
import { requireStored, statusOf } from './overview.js'
import { type Access, covers, isRestricted } from './principal.js'

export interface MoveRequest {
  /** Where to go on from: `<epoch>-<number>`. */
  position: string
  /** Must repeat the mirror's name. */
  confirm?: string | undefined
  /** Go forward although changes are skipped by it. */
  force?: boolean | undefined
}

export type MirrorControl = ReturnType<typeof createMirrorControl>

type MirrorAction = Extract<AuditAction, `mirror.${string}`>

/** How long a paused mirror's leader may take to finish what it has in hand before a position cannot be set. */
const REST_MS = 5000
const REST_POLL_MS = 50

/**
 * What an operator orders of a mirror. Orders stand in PostgreSQL and outlive restarts; whoever leads the mirror obeys,
 * whichever process was asked.
 * @returns each call the mirror as it stands afterwards.
 * @throws NOT_FOUND for a mirror that does not exist; FORBIDDEN to whom some documents are closed.
 */
export function createMirrorControl({ pool, hints, log }: { pool: Pool; hints: Hints; log: Log }) {
  /** Orders something in one transaction with its audit, and tells whoever leads. */
  const order = async (
    access: Access,
    { name, action, details }: { name: string; action: MirrorAction; details: object },
    work: (tx: Queryable) => Promise<void>,
  ): Promise<MirrorStatus> => {
    await transaction(pool, async (tx) => {
      await work(tx)
      await recordAudit(tx, access, { action, target: name, details })
    })
    hints.tell(MIRRORS_CHANNEL)
    const { principal, address } = access
    log.warn({ mirror: name, by: principal.id, address, ...details }, `ordered ${action}`)
    return statusOf(name, await requireStored(pool, name))
  }

  /** The mirror, for whom may order something of it. @throws NOT_FOUND; FORBIDDEN, because it holds every collection */
  const requireOrderable = async ({ principal }: Access, name: string): Promise<StoredMirror> => {
    const stored = await requireStored(pool, name)
    if (covers(principal, 'write', '*') && !isRestricted(principal)) return stored
    throw new DualstoreError(
      'FORBIDDEN',
      'orders for a mirror need a key with the write scope "*" and without rows',
    )
  }

  return {
    /** Changes wait in the log from now on. @throws CONFLICT when it is lost. */
    async pause(name: string, reason: string | undefined, access: Access): Promise<MirrorStatus> {
      await requireOrderable(access, name)
      const details = { ...(reason !== undefined && { reason }) }
      return order(access, { name, action: 'mirror.pause', details }, async (tx) => {
        const by = access.principal.id
        if (!(await pauseFollower(tx, name, { by, reason: reason ?? null }))) throw lost(name)
      })
    },

    /** @throws CONFLICT when it is lost. */
    async resume(name: string, access: Access): Promise<MirrorStatus> {
      await requireOrderable(access, name)
      return order(access, { name, action: 'mirror.resume', details: {} }, async (tx) => {
        if (!(await resumeFollower(tx, name, access.principal.id))) throw lost(name)
      })
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
      await requireOrderable(access, name)
      return order(access, { name, action: 'mirror.rebuild', details: { restart } }, async (tx) => {
        if (await requestRebuild(tx, name, { by: access.principal.id, restart })) return
        throw new DualstoreError('CONFLICT', `${name} is being rebuilt already; restart begins again`)
      })
    },

    /**
     * Lets a paused mirror go on from another place of the log.
     * @throws INVALID_REQUEST for a position that is not of this log; POSITION_GONE when the log no longer reaches back
     * to it; CONFLICT when it is not paused, or would skip changes and `force` is missing; CONFIRMATION_REQUIRED with
     * what would happen.
     */
    async setPosition(name: string, request: MoveRequest, access: Access): Promise<Moved> {
      const stored = await requireOrderable(access, name)
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
      const moved = {
        from: formatPosition({ epoch: stored.epoch, seq: from }),
        to: request.position,
        skipped,
        replayed,
      }
      const move = { name, action: 'mirror.set_position', details: moved } as const
      const mirror = await order(access, move, async (tx) => {
        if (await movePosition(tx, name, from, to)) return
        throw new DualstoreError('CONFLICT', `${name} has moved or was resumed meanwhile; look and try again`)
      })
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
