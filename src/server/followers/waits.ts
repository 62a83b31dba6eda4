/** The two ways a follower waits; both end at once when it is to stop. */
export interface Waits {
  /** Ends early when woken; a wake that came before is not lost. */
  sleep(ms: number): Promise<void>
  /** Waits in spite of wakes: for pauses that must not be cut short by a busy log. */
  pause(ms: number): Promise<void>
  wake(): void
}

export function createWaits(stopping: AbortSignal): Waits {
  let woken = false
  let endSleep: () => void = () => {}

  const wait = (ms: number, onStart: (end: () => void) => void) =>
    new Promise<void>((resolve) => {
      if (stopping.aborted) return resolve()
      const end = () => {
        clearTimeout(timer)
        stopping.removeEventListener('abort', end)
        resolve()
      }
      const timer = setTimeout(end, ms)
      stopping.addEventListener('abort', end)
      onStart(end)
    })

  return {
    async sleep(ms) {
      if (!woken) {
        await wait(ms, (end) => {
          endSleep = end
        })
      }
      woken = false
    },
    pause: (ms) => wait(ms, () => {}),
    wake() {
      woken = true
      endSleep()
    },
  }
}
