import { setTimeout as delay } from 'node:timers/promises'
import { formatPosition, type Position, parsePosition } from '../changes/position.js'
import { readHead } from '../changes/read.js'
import type { Pool } from '../db/pool.js'
import { DualstoreError, invalid } from '../errors.js'
import { MIRROR_FOLLOWER } from '../followers/mirror.js'
import type { Progress } from '../followers/progress.js'
import { parkedAmong } from '../store/parked.js'

export type ConsistencyLevel = 'eventual' | 'strict'

/** What strict writes and waiting reads need (I10). */
export interface Consistency {
  readonly epoch: string
  /** The level of a write: the request's own, else the setting's. */
  level(requested: ConsistencyLevel | undefined): ConsistencyLevel
  /** @throws MIRROR_UNAVAILABLE before anything is written, when strict is asked for and the mirror is known to be bad. */
  beforeWrite(level: ConsistencyLevel): void
  /**
   * Waits until the mirror has applied the write of a document.
   * @throws WAIT_TIMEOUT with the position, also when the mirror has parked the document (I6); the write stays.
   */
  afterWrite(
    level: ConsistencyLevel,
    seq: number | null,
    document: { collection: string; id: string },
  ): Promise<void>
  /** The same for several documents, `seq` being the position of the last of their writes. */
  afterWrites(
    level: ConsistencyLevel,
    seq: number | null,
    documents: readonly { collection: string; id: string }[],
  ): Promise<void>
  /**
   * Waits until a store has reached a position a client was given.
   * @throws INVALID_REQUEST; WAIT_TIMEOUT; MIRROR_UNAVAILABLE when the mirror is known not to get there, or may lack
   * documents wherever it stands.
   */
  waitFor(position: string, store: 'postgres' | 'mirror'): Promise<void>
  /** The text for x-dualstore-position. */
  format(seq: number): string
}

export interface ConsistencyOptions {
  pool: Pool
  epoch: string
  defaultLevel: ConsistencyLevel
  waitTimeoutMs: number
  /** How far the mirror is; undefined when no mirror is written. */
  mirror: Progress | undefined
  /** True while the mirror does not answer, whoever applies to it. */
  mirrorIsAway?: () => boolean
}

const POSTGRES_POLL_MS = 20

export function createConsistency(options: ConsistencyOptions): Consistency {
  const { pool, epoch, mirror, waitTimeoutMs } = options
  const timedOut = (seq: number, what: string) => {
    const position = formatPosition({ epoch, seq })
    const halted = what === 'the mirror' ? mirror?.halted : undefined
    return new DualstoreError(
      'WAIT_TIMEOUT',
      halted === undefined
        ? `${what} did not reach ${position} within ${waitTimeoutMs} ms`
        : `${what} ${halted}, and has not reached ${position}`,
      {
        extra: { position },
      },
    )
  }
  const afterWrites: Consistency['afterWrites'] = async (level, seq, documents) => {
    if (level === 'eventual' || seq === null || mirror === undefined) return
    if (!(await mirror.reached(seq, waitTimeoutMs))) throw timedOut(seq, 'the mirror')
    const [parked] = await parkedAmong(pool, MIRROR_FOLLOWER, documents)
    if (parked === undefined) return
    const message = `the mirror cannot take this document and has parked it: ${parked.collection}/${parked.id}`
    throw new DualstoreError('WAIT_TIMEOUT', message, { extra: { position: formatPosition({ epoch, seq }) } })
  }
  const noMirror = (reason: string) => new DualstoreError('MIRROR_UNAVAILABLE', reason)

  return {
    epoch,
    level: (requested) => requested ?? options.defaultLevel,
    beforeWrite(level) {
      if (level === 'eventual') return
      if (mirror === undefined) throw noMirror('strict writes need a mirror, and DUAL_WRITE_ENABLED is false')
      if (mirror.halted !== undefined) throw noMirror(`the mirror ${mirror.halted}; nothing was written`)
      if (mirror.failing || options.mirrorIsAway?.())
        throw noMirror('the mirror does not take writes now; nothing was written')
    },
    afterWrite: (level, seq, document) => afterWrites(level, seq, [document]),
    afterWrites,
    async waitFor(text, store) {
      const wanted = requirePosition(text, epoch)
      if (store === 'mirror') {
        if (mirror === undefined) throw noMirror('there is no mirror: DUAL_WRITE_ENABLED is false')
        if (mirror.rebuilding) throw noMirror('the mirror is being rebuilt and may lack documents')
        if (mirror.halted !== undefined && mirror.position < wanted.seq)
          throw noMirror(`the mirror ${mirror.halted}`)
        if (!(await mirror.reached(wanted.seq, waitTimeoutMs))) throw timedOut(wanted.seq, 'the mirror')
        return
      }
      for (const deadline = Date.now() + waitTimeoutMs; ; await delay(POSTGRES_POLL_MS)) {
        if ((await readHead(pool)).position >= wanted.seq) return
        if (Date.now() >= deadline) throw timedOut(wanted.seq, 'the log')
      }
    },
    format: (seq) => formatPosition({ epoch, seq }),
  }
}

function requirePosition(text: string, epoch: string): Position {
  const position = parsePosition(text)
  if (position?.epoch === epoch) return position
  throw invalid('x-dualstore-wait-for', `must be a position of this log, such as ${epoch}-42`)
}
