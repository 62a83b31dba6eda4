import { setTimeout as delay } from 'node:timers/promises'

/** Clients that write and read all the time. */
export interface Traffic {
  /** Content of every write that was acknowledged. */
  acknowledged: ReadonlySet<string>
  /** What went wrong for a client, apart from streams that were ended. */
  errors: readonly string[]
  /** How often the stream was opened again. */
  reconnects(): number
  stop(): Promise<void>
}

const PAUSE_MS = 20

/** Starts two writers, a reader of lists and a reader of a stream, all through one address. */
export function startTraffic(url: string): Traffic {
  const acknowledged = new Set<string>()
  const errors: string[] = []
  const stopped = new AbortController()
  const { signal } = stopped
  const messages = `${url}/api/v1/session_messages`
  let opened = 0

  const again = async (work: () => Promise<void>) => {
    while (!signal.aborted) {
      await work().catch((error: unknown) => {
        if (!signal.aborted) errors.push(String((error as Error).cause ?? error))
      })
      await delay(PAUSE_MS, undefined, { signal }).catch(() => {})
    }
  }
  let written = 0
  const write = async () => {
    const content = `written ${written++}`
    const body = JSON.stringify({ session_id: `ses_${written % 7}`, role: 'user', content })
    // Not broken off by the end: whether it was acknowledged has to be known.
    const answer = await fetch(messages, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    })
    const text = await answer.text()
    if (answer.status === 201) acknowledged.add(content)
    else errors.push(`POST ${answer.status} ${text}`)
  }
  const read = async () => {
    const answer = await fetch(`${messages}?limit=20`, { signal })
    const { data } = (await answer.json()) as { data: unknown[] }
    if (answer.status !== 200 || !Array.isArray(data)) errors.push(`GET ${answer.status}`)
  }
  const stream = async () => {
    const answer = await fetch(`${url}/api/v1/stream/session_messages`, { signal })
    opened++
    if (answer.status !== 200) errors.push(`stream ${answer.status}`)
    const reader = answer.body?.getReader()
    // An end of the stream, in order or not, is answered by opening it again.
    while (reader !== undefined && !(await reader.read().catch(() => ({ done: true }))).done);
  }
  const clients = [write, write, read, stream].map(again)
  return {
    acknowledged,
    errors,
    reconnects: () => Math.max(0, opened - 1),
    async stop() {
      stopped.abort()
      await Promise.all(clients)
    },
  }
}
