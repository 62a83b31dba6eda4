import { LRUCache } from 'lru-cache'
import { entriesBehind, type Segment, type Tail } from '../../followers/tail.js'
import { changeFrame, seenBy, type View } from './events.js'

/** What a view is sent for the changes behind a position up to `to`; no bytes when none of them is for it. */
export interface Chunk {
  to: number
  bytes: Buffer | undefined
  /** As much as makes one write: what comes behind it belongs into the next. */
  full: boolean
}

/** Encodes changes once for each view, however many clients look at it. */
export interface Frames {
  /** The next changes behind `after`, not beyond `upTo`: as many as make one write. undefined: not in memory. */
  inMemory(view: View, after: number, upTo: number): Chunk | undefined
  /** The same, from the log where it must be. @throws PositionLost, STORE_UNAVAILABLE */
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
    const chunk = (full: boolean): Chunk => ({
      to,
      bytes: frames.length === 0 ? undefined : Buffer.from(frames.join('')),
      full,
    })
    for (const entry of entriesBehind(segment, after)) {
      if (size >= WRITE_BYTES || looked >= LOOK_AT_ONCE) return chunk(true)
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
    return chunk(size >= WRITE_BYTES)
  }

  /** What was encoded before, or that and what has come since: the log grows while a ring of clients is sent it. */
  const chunkOf = (view: View, segment: Segment, after: number, upTo: number): Chunk => {
    const key = `${after} ${view.key}`
    const known = cache.get(key)
    if (known !== undefined && known.to <= upTo && (known.full || known.to >= Math.min(upTo, segment.last)))
      return known
    const chunk =
      known !== undefined && known.to < upTo
        ? joined(known, encode(view, segment, known.to, upTo))
        : encode(view, segment, after, upTo)
    cache.set(key, chunk)
    return chunk
  }

  /** Asked for last: nearly always the same as by the client before. */
  let latest: { view: View; after: number; upTo: number; chunk: Chunk } | undefined

  const inMemory = (view: View, after: number, upTo: number): Chunk | undefined => {
    if (latest?.after === after && latest.upTo === upTo && latest.view === view) return latest.chunk
    const segment = tail.inMemory(after)
    if (segment === undefined) return undefined
    const chunk = chunkOf(view, segment, after, upTo)
    latest = { view, after, upTo, chunk }
    return chunk
  }

  return {
    clear() {
      latest = undefined
      cache.clear()
    },
    inMemory,
    next: (view, after, upTo) =>
      inMemory(view, after, upTo) ?? tail.load(after).then((loaded) => chunkOf(view, loaded, after, upTo)),
  }
}

function joined(one: Chunk, next: Chunk): Chunk {
  const parts = [one.bytes, next.bytes].filter((bytes) => bytes !== undefined)
  const bytes = parts.length > 1 ? Buffer.concat(parts) : parts[0]
  return { to: next.to, bytes, full: next.full || (bytes?.length ?? 0) >= WRITE_BYTES }
}
