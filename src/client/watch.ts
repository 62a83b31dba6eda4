import { DualstoreClientError } from './errors.js'

/** Bounds how long something may take to come from the network, and passes the caller's abort on. */
export interface Watch {
  /** For fetch: aborted by the caller, when a wait takes too long, and at the end. */
  readonly signal: AbortSignal
  /**
   * Waits for one thing from the network.
   * @throws the caller's reason; DualstoreClientError TIMEOUT or NETWORK
   */
  during<T>(work: Promise<T>): Promise<T>
  /** Lets go of the connection, if there still is one, and of the caller's signal. */
  end(): void
}

/** @param timeoutMs Milliseconds for each `during`; between them the consumer may take all the time it needs. */
export function createWatch(caller: AbortSignal | undefined, timeoutMs: number): Watch {
  const controller = new AbortController()
  let timedOut = false
  // Not AbortSignal.any: in Node 20 it keeps what it made for as long as a long-lived signal lives.
  const abort = () => controller.abort(caller?.reason)
  if (caller?.aborted) abort()
  caller?.addEventListener('abort', abort, { once: true })

  return {
    signal: controller.signal,
    async during(work) {
      const timer = setTimeout(() => {
        timedOut = true
        controller.abort()
      }, timeoutMs)
      try {
        return await work
      } catch (error) {
        if (caller?.aborted) throw caller.reason
        if (error instanceof DualstoreClientError) throw error
        if (timedOut) {
          const message = `nothing came for ${timeoutMs} ms`
          throw new DualstoreClientError('TIMEOUT', message, { retryable: true, cause: error })
        }
        const message = `the server cannot be reached or broke off: ${reasonOf(error)}`
        throw new DualstoreClientError('NETWORK', message, { retryable: true, cause: error })
      } finally {
        clearTimeout(timer)
      }
    },
    end() {
      caller?.removeEventListener('abort', abort)
      controller.abort()
    },
  }
}

/** Node's fetch tells why in the cause of its error; browsers do not. */
function reasonOf(error: unknown): string {
  const { cause, message } = error as { cause?: { code?: string; message?: string }; message?: string }
  return cause?.code ?? cause?.message ?? message ?? String(error)
}
