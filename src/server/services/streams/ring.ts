import type { StreamClient } from './client.js'

/**
 * Clients in a circle, those with the same view side by side, and a place in it that only moves on while somebody is
 * due. Whoever is called has a turn when the place comes to it; calling all again on the way adds a whole round from
 * there. So nobody waits for more than one round, however often all are called.
 */
export interface Ring extends Iterable<StreamClient> {
  add(client: StreamClient): void
  delete(client: StreamClient): void
  /** From here on everybody is due for a turn. */
  callAll(): void
  /** After how many turns, at most, everybody who was called has had one. */
  readonly called: number
  /** Those whose turn it is, one after the other, until none is called any more. */
  takeCalled(): Iterable<StreamClient>
}

export function createRing(): Ring {
  const views = new Map<string, Set<StreamClient>>()
  let size = 0
  let called = 0

  // Sets and maps may change while they are walked through: who comes is met at the end, who is gone is not.
  function* once(): Generator<StreamClient> {
    for (const members of views.values()) yield* members
  }

  let round = once()
  const next = (): StreamClient | undefined => {
    const met = round.next()
    if (!met.done) return met.value
    round = once()
    return round.next().value
  }

  return {
    [Symbol.iterator]: once,
    add(client) {
      const members = views.get(client.view.key) ?? new Set()
      views.set(client.view.key, members.add(client))
      size++
      // Met before some of those who are called.
      if (called > 0) called++
    },
    delete(client) {
      const members = views.get(client.view.key)
      if (!members?.delete(client)) return
      size--
      // It may have had its turn, so nobody is taken off those who are called.
      if (members.size === 0) views.delete(client.view.key)
    },
    callAll() {
      called = size
    },
    get called() {
      return called
    },
    *takeCalled() {
      while (called > 0) {
        called--
        const client = next()
        if (client !== undefined) yield client
      }
      // A place inside of a set that nobody moves on keeps what is deleted from it alive.
      round = once()
    },
  }
}
