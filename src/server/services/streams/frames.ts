import { LRUCache } from 'lru-cache'
import { entriesBehind, type Segment, type Tail } from '../../followers/tail.js'
import { changeFrame, seenBy, type View } from './events.js'

/** What a view is sent for the changes behind a position up to `to`; no bytes when none of them is for it. */
export interface Chunk {
  to: number
  bytes: Buffer | undefined
}

/** Encodes changes once for each view, however many clients look at it. */
export interface Frames {
  /**
   * The next changes behind `after`, not beyond `upTo`: as many as make one write.
   * @throws PositionLost, STORE_UNAVAILABLE
   */
  next(view: View, after: number, upTo: number): Chunk | Promise<Chunk>
  /** Forgets what was encoded: the log is another one. */
  clear(): void
}

/** One write to a client: more would only lie in its socket's queue. */
const WRITE_BYTES = 64 * 1024
/** Changes looked at before other work gets its turn. */
const LOOK_AT_ONCE = 2000
const CACHE_BYTES = 32 * 1024 * 1024
/** What an entry without bytes costs. */
const ENTRY_BYTES = 200

export function createFrames(tail: Tail): Frames {
  const cache = new LRUCache<string, Chunk>({
    maxSize: CACHE_BYTES,
    sizeCalculation: ({ bytes }) => (bytes?.length ?? 0) + ENTRY_BYTES,
  })

  const encode = (view: View, segment: Segment, after: number, upTo: number): Chunk => {
    const frames: string[] = []
    let size = 0
    let looked = 0
    let to = after
    const chunk = (): Chunk => ({ to, bytes: frames.length === 0 ? undefined : Buffer.from(frames.join('')) })
    for (const entry of entriesBehind(segment, after)) {
      if (size >= WRITE_BYTES || looked >= LOOK_AT_ONCE) return chunk()
      if (entry.change.seq > upTo) break
      looked++
      to = entry.change.seq
      const seen = seenBy(view, entry)
      if (seen === undefined) continue
      const text = changeFrame(view, entry, seen, tail.epoch)
      size += text.length
      frames.push(text)
    }
    // Behind its last change a segment holds nothing, whatever numbers were drawn there.
    to = Math.min(upTo, segment.last)
    return chunk()
  }

  const chunkOf = (view: View, segment: Segment, after: number, upTo: number): Chunk => {
    const key = `${after} ${view.key}`
    const known = cache.get(key)
    if (known !== undefined && known.to <= upTo) return known
    const chunk = encode(view, segment, after, upTo)
    cache.set(key, chunk)
    return chunk
  }

  return {
    clear: () => cache.clear(),
    next(view, after, upTo) {
      const segment = tail.inMemory(after)
      if (segment !== undefined) return chunkOf(view, segment, after, upTo)
      return tail.load(after).then((loaded) => chunkOf(view, loaded, after, upTo))
    },
  }
}
