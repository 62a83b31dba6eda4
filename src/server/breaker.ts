/** `half_open` while it is being found out whether the store is back. */
export type BreakerState = 'closed' | 'half_open' | 'open'

/** Keeps requests from waiting for a store that is known not to answer. */
export interface Breaker {
  readonly state: BreakerState
  /** Why it is open, for operators; undefined while it is closed. */
  readonly reason: string | undefined
  /** How often it has opened. */
  readonly opened: number
  /** @throws what `refuse` makes of the reason, while it is not closed. */
  check(): void
  /** Something may mean an outage, or the end of one: looks, and opens or closes by what it finds. */
  look(): void
  /** Opens: the store is known to be away. */
  open(error: unknown): void
  /** Ends the looking; the state stays as it is. */
  stop(): void
}

export interface BreakerOptions {
  /** Looks whether the store serves. Must end by itself; a rejection means that it does not. */
  probe(): Promise<void>
  /** Between two looks while it is open, milliseconds. */
  pauseMs: number
  refuse(reason: unknown): Error
  onOpened?(reason: unknown): void
  /** The store is still away, so each look has failed since it opened. */
  onStillAway?(): void
  onClosed?(): void
}

/**
 * A breaker that asks the store itself. One failed request, or ten, do not prove an outage, and one that succeeds does
 * not prove its end; so a failure only makes it look, in the background, and looking alone opens and closes it. No
 * client's request is ever the trial that decides, and none waits for it.
 */
export function createBreaker(options: BreakerOptions): Breaker {
  let reason: unknown
  let isOpen = false
  let looking: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined
  let stopped = false
  let opened = 0

  const close = () => {
    if (!isOpen) return
    isOpen = false
    clearTimeout(timer)
    options.onClosed?.()
  }
  const trip = (error: unknown) => {
    reason = error
    if (isOpen) return
    isOpen = true
    opened++
    options.onOpened?.(error)
  }
  const look = () => {
    if (stopped) return
    looking ??= options
      .probe()
      .then(
        () => 'back' as const,
        (error: unknown) => ({ error }),
      )
      .then((found) => {
        looking = undefined
        if (stopped) return
        if (found === 'back') return close()
        if (isOpen) options.onStillAway?.()
        trip(found.error)
        clearTimeout(timer)
        timer = setTimeout(look, options.pauseMs)
        timer.unref()
      })
  }

  return {
    get state() {
      if (!isOpen) return 'closed'
      return looking === undefined ? 'open' : 'half_open'
    },
    get reason() {
      return isOpen ? messageOf(reason) : undefined
    },
    get opened() {
      return opened
    },
    check() {
      if (isOpen) throw options.refuse(reason)
    },
    look,
    open(error) {
      if (stopped) return
      trip(error)
      look()
    },
    stop() {
      stopped = true
      clearTimeout(timer)
    },
  }
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  // A refused connection to a name with several addresses has no message of its own.
  return error.message || String((error as NodeJS.ErrnoException).code ?? error.name)
}
