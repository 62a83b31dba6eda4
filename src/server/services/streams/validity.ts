import { DualstoreError } from '../../errors.js'
import type { Principal } from '../principal.js'

export interface ValidityOptions {
  /** Whether what a principal stands on still holds; asked often, so it must not ask a store. */
  isValid: (principal: Principal) => boolean
  /** Tells when answers of `isValid` may have changed, until the returned function is called. */
  onAccessChange: (listener: () => void) => () => void
  now: () => number
}

/** Whether those who called are still who they were: rights are checked also while an answer is under way. */
export interface Validity {
  /** @throws UNAUTHORIZED when it is no longer valid */
  require(principal: Principal): void
  /** Calls `ended` once when it is no longer valid, at most half a second late, until the returned function is called. */
  watch(principal: Principal, ended: () => void): () => void
  close(): void
}

const SWEEP_MS = 500

/** One sweep for all that is watched: a stream costs no timer of its own. */
export function createValidity({ isValid, onAccessChange, now }: ValidityOptions): Validity {
  const watched = new Set<{ principal: Principal; ended: () => void }>()
  let timer: NodeJS.Timeout | undefined

  const holds = (principal: Principal): boolean =>
    (principal.expiresAt === undefined || now() < principal.expiresAt) && isValid(principal)

  const stopWhenIdle = () => {
    if (watched.size > 0) return
    clearInterval(timer)
    timer = undefined
  }

  const sweep = () => {
    for (const one of watched) {
      if (holds(one.principal)) continue
      watched.delete(one)
      one.ended()
    }
    stopWhenIdle()
  }
  const unsubscribe = onAccessChange(sweep)

  return {
    require(principal) {
      if (!holds(principal)) throw new DualstoreError('UNAUTHORIZED', 'the key was revoked or has expired')
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
