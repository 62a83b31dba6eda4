import { parsePosition } from '../../changes/position.js'
import type { LogHead } from '../../changes/read.js'
import type { Lost } from '../../followers/tail.js'

/** Where a client begins. */
export interface Start {
  /** The first change it is sent is the one behind this. */
  position: number
  /** Where the log ended when it came. */
  head: number
  /** It came with a position that is good. */
  resumes: boolean
  /** The position it came with was of no use: it begins at the end and must be told. */
  lost?: { reason: Lost | 'unknown'; requested: string }
}

/** Judges the position that a client came with; without one it begins at the end of the log. */
export function beginAt(requested: string | undefined, { epoch, position: head, floor }: LogHead): Start {
  if (requested === undefined) return { position: head, head, resumes: false }
  const lost = (reason: Lost | 'unknown'): Start => ({
    position: head,
    head,
    resumes: false,
    lost: { reason, requested },
  })
  const position = parsePosition(requested)
  if (position === undefined) return lost('unknown')
  if (position.epoch !== epoch) return lost('other_log')
  if (position.seq > head) return lost('ahead')
  if (position.seq < floor) return lost('gone')
  return { position: position.seq, head, resumes: true }
}
