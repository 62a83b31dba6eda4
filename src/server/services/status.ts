import { readHead } from '../changes/read.js'
import type { Pool } from '../db/pool.js'
import { MIRROR_FOLLOWER } from '../followers/mirror.js'
import type { Progress } from '../followers/progress.js'
import type { Mirror } from '../mirror/contract.js'
import { countParked } from '../store/parked.js'
import { type FollowerState, readFollowers, type StoredFollower } from '../store/positions.js'
import type { Registry } from './registry.js'

/** One thing the service stands on. */
export interface Check {
  ok: boolean
  reason?: string
}

export interface Readiness {
  ready: boolean
  checks: {
    postgres: Check
    /** Never makes the service unready: writes go on without the mirror, and the log drains later (I9). */
    mirror: Check & {
      kind: Mirror['kind'] | 'none'
      position?: number
      lag?: number
      parked?: number
      /** Told when it is paused or lost. */
      state?: FollowerState
    }
  }
}

export interface StatusServiceOptions {
  pool: Pool
  registry: Registry
  mirror: Mirror | undefined
  progress: Progress | undefined
}

export type StatusService = ReturnType<typeof createStatusService>

export function createStatusService({ pool, registry, mirror, progress }: StatusServiceOptions) {
  let closing = false
  /** Whether PostgreSQL answers a question, and its answer when it does. */
  const ask = async <T>(question: () => Promise<T>): Promise<{ check: Check; answer?: T }> => {
    if (closing) return { check: { ok: false, reason: 'the server is shutting down' } }
    try {
      return { check: { ok: true }, answer: await question() }
    } catch (error) {
      return { check: { ok: false, reason: (error as Error).message } }
    }
  }
  const standing = async (): Promise<Standing> => {
    const { check, answer } = await ask(() =>
      Promise.all([readHead(pool), countParked(pool, MIRROR_FOLLOWER), mirrorFollower()]),
    )
    const [head, parked, follower] = answer ?? []
    return { check, head: head?.position ?? 0, parked: parked ?? 0, follower }
  }
  return {
    /** From here on the service says that it is not ready. */
    shutDown() {
      closing = true
    },

    closing: () => closing,

    async readiness(): Promise<Readiness> {
      const { check, ...where } = await standing()
      return { ready: check.ok, checks: { postgres: check, mirror: mirrorCheck(where) } }
    },

    /**
     * Readiness for a process that follows nothing itself: where the mirror is comes from what its leader stored, and
     * without a leader the mirror is asked directly, since nobody else can say whether it would answer.
     */
    async survey(): Promise<Readiness> {
      const { check, head, parked, follower } = await standing()
      if (mirror === undefined) {
        return { ready: check.ok, checks: { postgres: check, mirror: { ok: true, kind: 'none' } } }
      }
      const position = follower?.position ?? 0
      const where = { kind: mirror.kind, position, lag: Math.max(0, head - position), parked }
      const stopped = stoppedCheck(follower)
      if (stopped !== undefined)
        return { ready: check.ok, checks: { postgres: check, mirror: { ...where, ...stopped } } }
      const reason =
        follower?.led === true
          ? (follower.last_error ?? undefined)
          : await mirror.ping().then(
              () => undefined,
              (error: Error) => error.message,
            )
      const mirrored = { ok: reason === undefined, ...(reason !== undefined && { reason }), ...where }
      return { ready: check.ok, checks: { postgres: check, mirror: mirrored } }
    },

    /** Whether a running server mirrors what is written now; true also when no mirror is wanted. */
    async mirrorIsLed(): Promise<boolean> {
      return mirror === undefined || (await mirrorFollower())?.led === true
    },

    /** The legacy server's `stores`: whether each of its three collections can be used. */
    async stores(): Promise<Record<'sessionMessages' | 'agentTasks' | 'opencodeEvents', boolean>> {
      const { ok } = (await ask(() => readHead(pool))).check
      const names = new Set(registry.all().map((collection) => collection.definition.name))
      return {
        sessionMessages: ok && names.has('session_messages'),
        agentTasks: ok && names.has('agent_tasks'),
        opencodeEvents: ok && names.has('opencode_events'),
      }
    },
  }

  async function mirrorFollower(): Promise<StoredFollower | undefined> {
    return (await readFollowers(pool)).find((follower) => follower.id === MIRROR_FOLLOWER)
  }

  function mirrorCheck({ head, parked, follower }: Omit<Standing, 'check'>): Readiness['checks']['mirror'] {
    if (mirror === undefined || progress === undefined) return { ok: true, kind: 'none' }
    const { position, lastError } = progress
    const where = { kind: mirror.kind, position, lag: Math.max(0, head - position), parked }
    const stopped = stoppedCheck(follower)
    if (stopped !== undefined) return { ...where, ...stopped }
    return lastError === undefined
      ? { ok: true, ...where }
      : { ok: false, reason: 'it does not take changes now', ...where }
  }
}

interface Standing {
  check: Check
  head: number
  parked: number
  follower: StoredFollower | undefined
}

/** What is told of a follower that does not run; undefined when it does. */
function stoppedCheck(
  follower: StoredFollower | undefined,
): (Check & { state: FollowerState; position: number }) | undefined {
  if (follower === undefined || follower.state === 'running') return undefined
  const { state, state_reason, position } = follower
  return { ok: false, state, reason: `${state}: ${state_reason ?? 'no reason was given'}`, position }
}
