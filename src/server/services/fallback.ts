import { formatPosition } from '../changes/position.js'
import { codeOf, QUERY_CANCELED } from '../db/sqlstate.js'
import { DualstoreError } from '../errors.js'
import type { Progress } from '../followers/progress.js'
import type { Mirror } from '../mirror/contract.js'

export interface ReadOptions {
  /** Which store answers; PostgreSQL unless told, and while it is away the mirror (I9). */
  from?: 'postgres' | 'mirror' | undefined
  /** A position the store must have reached first. */
  waitFor?: string | undefined
}

/** Where an answer comes from. */
export interface Source {
  source: 'postgres' | 'mirror'
  /** What the mirror had applied at least when it was read, as `<epoch>-<position>`; null for PostgreSQL. */
  position: string | null
}

export interface FallbackOptions {
  mirror: Mirror | undefined
  epoch: string
  progress: Progress | undefined
}

/** The same question to either store. */
export interface Question<T> {
  postgres(): Promise<T>
  mirror(mirror: Mirror): Promise<T>
  /** The mirror scans a whole collection for it. */
  scans?: boolean
}

/** Reads that the mirror answers while PostgreSQL is away (I9). */
export interface Fallback {
  /**
   * Asks PostgreSQL, or the mirror when the request says so, or when PostgreSQL is away and the request leaves open
   * which store answers. What the mirror cannot answer then is PostgreSQL's 503, not the mirror's own refusal: the
   * request was right.
   * @throws MIRROR_UNAVAILABLE when the mirror was asked for and there is none; STORE_UNAVAILABLE
   */
  read<T>(options: ReadOptions, question: Question<T>): Promise<Source & { answer: T }>
}

/** Scans of the mirror that nobody asked for, at the same time: an outage must not take this process down too. */
const SCANS_AT_ONCE = 4

export function createFallback({ mirror, epoch, progress }: FallbackOptions): Fallback {
  let scans = 0

  const askMirror = async <T>(store: Mirror, question: Question<T>) => {
    // Taken before: what is applied while it is read may or may not be in the answer.
    const seq = progress?.position ?? 0
    const answer = await question.mirror(store)
    const position = seq > 0 ? formatPosition({ epoch, seq }) : null
    return { answer, source: 'mirror' as const, position }
  }

  return {
    async read({ from, waitFor }, question) {
      if (from === 'mirror') return askMirror(requireMirror(mirror), question)
      try {
        return { answer: await question.postgres(), source: 'postgres', position: null }
      } catch (error) {
        // Whoever names a store, or waits until PostgreSQL has got somewhere, wants no other answer.
        const open = from === undefined && waitFor === undefined
        if (!open || mirror === undefined || !isAway(error)) throw error
        const weight = question.scans ? 1 : 0
        if (scans + weight > SCANS_AT_ONCE) throw error
        scans += weight
        try {
          return await askMirror(mirror, question)
        } catch (refusal) {
          if (refusal instanceof DualstoreError) throw error
          throw refusal
        } finally {
          scans -= weight
        }
      }
    },
  }
}

/** @throws MIRROR_UNAVAILABLE when no mirror is configured. */
export function requireMirror(mirror: Mirror | undefined): Mirror {
  if (mirror !== undefined) return mirror
  throw new DualstoreError('MIRROR_UNAVAILABLE', 'there is no mirror: DUAL_WRITE_ENABLED is false')
}

/** A statement that took too long is no outage, and would take longer still in the mirror. */
function isAway(error: unknown): boolean {
  const unavailable = error instanceof DualstoreError && error.code === 'STORE_UNAVAILABLE'
  return unavailable && codeOf(error) !== QUERY_CANCELED
}
