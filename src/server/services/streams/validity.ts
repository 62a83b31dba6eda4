import { DualstoreError } from '../../errors.js'
import type { Principal } from '../principal.js'

export interface ValidityOptions {
  /** Whether what a principal stands on still holds, from memory: asked often. */
  isValid: (principal: Principal) => boolean
  /** The same from the store, asked where memory says no: it may not know what was made a moment ago. */
  confirm: (principal: Principal) => Promise<boolean>
  /** Tells when answers of `isValid` may have changed, until the returned function is called. */
  onAccessChange: (listener: () => void) => () => void
  now: () => number
}

/** Whether those who called are still who they were: rights are checked also while an answer is under way. */
export interface Validity {
  /** @throws UNAUTHORIZED when it is no longer valid; STORE_UNAVAILABLE */
  require(principal: Principal): Promise<void>
  /** Calls `ended` once when it is no longer valid, at most half a second late, until the returned function is called. */
  watch(principal: Principal, ended: () => void): () => void
  close(): void
}

const SWEEP_MS = 500

/** One sweep for all that is watched: a stream costs no timer of its own. */
export function createValidity({ isValid, confirm, onAccessChange, now }: ValidityOptions): Validity {
  const watched = new Set<{ principal: Principal; ended: () => void }>()
  let timer: NodeJS.Timeout | undefined

  const hasExpired = ({ expiresAt }: Principal) => expiresAt !== undefined && now() >= expiresAt
  const holds = async (principal: Principal): Promise<boolean> =>
    !hasExpired(principal) && (isValid(principal) || (await confirm(principal)))

  const stopWhenIdle = () => {
    if (watched.size > 0) return
    clearInterval(timer)
    timer = undefined
  }

  const end = (one: { principal: Principal; ended: () => void }) => {
    if (watched.delete(one)) one.ended()
    stopWhenIdle()
  }

  const sweep = () => {
    for (const one of watched) {
      if (hasExpired(one.principal)) end(one)
      // A store that does not answer has not said no; the next sweep asks again.
      else if (!isValid(one.principal))
        confirm(one.principal).then(
          (valid) => valid || end(one),
          () => {},
        )
    }
  }
  const unsubscribe = onAccessChange(sweep)

  return {
    async require(principal) {
      if (!(await holds(principal)))
        throw new DualstoreError('UNAUTHORIZED', 'the key was revoked or has expired')
    },
    watch(principal, ended) {
      // Nothing can happen to it while this process runs.
      if (principal.keyId === undefined && principal.expiresAt === undefined) return () => {}
      const one = { principal, ended }
      watched.add(one)
      timer ??= setInterval(sweep, SWEEP_MS).unref()
      return () => {
        watched.delete(one)
        stopWhenIdle()
      }
    },
    close() {
      unsubscribe()
      watched.clear()
      stopWhenIdle()
    },
  }
}
