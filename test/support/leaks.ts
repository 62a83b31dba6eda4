import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll } from 'vitest'

/** How long what is closing may take to be gone. */
const CLOSING_MS = 3000

/** What keeps the event loop alive, by kind: { Timeout: 2, TCPSocketWrap: 1 }. */
export type Resources = Readonly<Record<string, number>>

export function activeResources(): Resources {
  const counts: Record<string, number> = {}
  for (const kind of process.getActiveResourcesInfo()) counts[kind] = (counts[kind] ?? 0) + 1
  return counts
}

/**
 * Waits until nothing is alive that was not alive `before`, and describes what still is when the time is up.
 * @returns one text for each kind of resource left, such as "2 × TCPSocketWrap (127.0.0.1:5432)"; empty when clean.
 */
export async function leaksSince(before: Resources, waitMs = CLOSING_MS): Promise<string[]> {
  const deadline = Date.now() + waitMs
  for (;;) {
    // Unreferenced, so that this wait is not itself among what it looks for.
    await delay(10, undefined, { ref: false })
    const left = Object.entries(activeResources())
      .map(([kind, count]) => [kind, count - (before[kind] ?? 0)] as const)
      .filter(([kind, count]) => count > 0 && !transient.has(kind))
    if (left.length === 0) return []
    if (Date.now() > deadline) return left.map(([kind, count]) => `${count} × ${kind}${detailsOf(kind)}`)
  }
}

// Work in flight of the runner itself (its messages and reads of source files), never something held open.
const transient = new Set([
  'FSReqCallback',
  'FSReqPromise',
  'CloseReq',
  'Immediate',
  'TickObject',
  'MessagePort',
])

/** Addresses of sockets and servers and pids of children, as far as Node tells. */
function detailsOf(kind: string): string {
  const handles = (process as unknown as { _getActiveHandles?: () => unknown[] })._getActiveHandles?.() ?? []
  const texts = handles.flatMap((handle) => {
    const name = (handle as object).constructor.name
    if (kind === 'ProcessWrap' && name === 'ChildProcess') {
      const child = handle as { pid?: number; spawnargs?: string[] }
      return [`pid ${child.pid}: ${child.spawnargs?.join(' ')}`]
    }
    if (kind === 'TCPServerWrap' && name === 'Server') {
      return [JSON.stringify((handle as { address(): unknown }).address())]
    }
    if (kind === 'TCPSocketWrap' && name === 'Socket') {
      const socket = handle as Socket
      return socket.remoteAddress === undefined ? [] : [`${socket.remoteAddress}:${socket.remotePort}`]
    }
    return []
  })
  return texts.length === 0 ? '' : ` (${texts.join(', ')})`
}

/** What was alive all along: the least of a few looks, so that what the runner has in flight is not counted. */
export async function settledResources(): Promise<Resources> {
  let least = activeResources()
  for (let look = 0; look < 3; look++) {
    await delay(5, undefined, { ref: false })
    const now = activeResources()
    least = Object.fromEntries(
      Object.entries(least).map(([kind, count]) => [kind, Math.min(count, now[kind] ?? 0)]),
    )
  }
  return least
}

type Closer = (failed: boolean) => Promise<void>
const closers: Closer[] = []

/** Registers what closes a resource of this test file, told whether a test failed. The last opened closes first. */
export function atEndOfFile(close: Closer): void {
  closers.push(close)
}

// As a vitest setup file this runs around every test file. Hooks run as a stack: the first to be registered here is
// the last to run there, behind every hook of the file's own.
let before: Resources = {}

beforeAll(async () => {
  before = await settledResources()
})

// biome-ignore lint/correctness/noEmptyPattern: vitest insists on a destructured first argument.
afterAll(async ({}, suite) => {
  const errors: unknown[] = []
  const failed = hasFailed(suite.file)
  for (const close of closers.splice(0).reverse())
    await close(failed).catch((error: unknown) => errors.push(error))
  const leaks = await leaksSince(before)
  if (leaks.length > 0) errors.push(new Error(`this file leaves open: ${leaks.join('; ')}`))
  if (errors.length > 0) throw errors.length === 1 ? errors[0] : new AggregateError(errors, errors.join('\n'))
})

interface TaskLike {
  result?: { state?: string } | undefined
  tasks?: readonly TaskLike[]
}

function hasFailed(task: TaskLike): boolean {
  return task.result?.state === 'fail' || (task.tasks ?? []).some(hasFailed)
}
