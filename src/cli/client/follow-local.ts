import { setTimeout as delay } from 'node:timers/promises'
import type { ChangeEvent } from '../../client/index.js'
import { DualstoreError } from '../../server/errors.js'
import { localAccess } from '../../server/services/principal.js'
import type { StreamService } from '../../server/services/streams.js'
import type { Followed, FollowRequest } from './contract.js'

const PAGE = 500
/** How long to wait for a change before the position is told anew. */
const WAIT_MS = 10_000
const OUTAGE_PAUSE_MS = 1000

/** Changes from the log of the local stores, whoever writes them. @throws the catalogue's errors */
export async function* followLocal(
  streams: Pick<StreamService, 'changes'>,
  { collection, since, selection, signal, onTrouble }: FollowRequest,
): AsyncGenerator<Followed> {
  const collections = collection === undefined ? undefined : [collection]
  // Without a position the answer is the present one, at once.
  let position = since
  let begun = false
  while (!signal.aborted) {
    try {
      const waitMs = begun ? WAIT_MS : 0
      const page = await streams.changes(localAccess, {
        collections,
        query: selection,
        since: position,
        limit: PAGE,
        waitMs,
        signal,
      })
      for (const text of page.texts) yield changeOf(text)
      position = page.position
      if (page.hasMore) continue
      yield { type: begun ? 'heartbeat' : 'ready', position }
      begun = true
    } catch (error) {
      if (!(error instanceof DualstoreError)) throw error
      if (error.code === 'POSITION_GONE') {
        const { reason, position: head } = error.extra as { reason: string; position: string }
        yield { type: 'reset', reason, requested: position ?? '', position: head }
        position = head
      } else if (error.retryable && begun) {
        onTrouble(error.message)
        await delay(OUTAGE_PAUSE_MS, undefined, { signal }).catch(() => {})
      } else throw error
    }
  }
}

function changeOf(text: string): Followed {
  const { data, ...change } = JSON.parse(text) as Omit<ChangeEvent<unknown>, 'item'> & { data: unknown }
  return { ...change, item: data, snapshot: false }
}
