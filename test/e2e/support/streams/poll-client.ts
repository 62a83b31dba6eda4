import { setTimeout as delay } from 'node:timers/promises'
import { numberOf, type Stretch, type Told } from './recording.js'
import type { ClientOptions, RecordingClient } from './stream-client.js'

interface Page {
  success: boolean
  data: (Omit<Told, 'position'> & { position: string })[]
  position: string
  has_more: boolean
}

const RETRY_MS = 50

/** Follows one collection by polling, with random waits and limits, and breaks some polls off before their answer. */
export function startPollClient(options: ClientOptions): RecordingClient {
  const { interest, draw, tally, onFault } = options
  const stretch: Stretch = { start: undefined, told: [], claims: [] }
  const stopping = new AbortController()
  const waiting: { position: number; resolve(): void }[] = []
  let since: string | undefined

  const take = (page: Page, limit: number) => {
    if (!page.success || page.data.length > limit)
      onFault(`${page.data.length} of ${limit} at ${page.position}`)
    const position = numberOf(page.position)
    // A first poll that waited answers with what came, and not where it began.
    stretch.start ??= page.data[0] === undefined ? position : numberOf(page.data[0].position) - 1
    for (const change of page.data) stretch.told.push({ ...change, position: numberOf(change.position) })
    stretch.claims.push({ position, count: stretch.told.length })
    since = page.position
    for (const one of waiting.filter((one) => one.position <= position)) {
      waiting.splice(waiting.indexOf(one), 1)
      one.resolve()
    }
  }

  const poll = async (): Promise<void> => {
    const limit = draw.from([1, 7, 100, 1000])
    const address = new URL(`/api/v1/${interest.collections?.[0]}/changes`, options.url())
    for (const [name, value] of Object.entries(interest.query)) address.searchParams.set(name, value)
    address.searchParams.set('limit', String(limit))
    if (draw.chance(0.7)) address.searchParams.set('wait', String(1 + draw.below(3)))
    if (since !== undefined) address.searchParams.set('since', since)
    const patience = AbortSignal.timeout(draw.chance(0.1) ? 1 + draw.below(50) : 20_000)
    const answer = await fetch(address, { signal: AbortSignal.any([patience, stopping.signal]) })
    const text = await answer.text()
    tally.polls++
    if (answer.status === 200) return take(JSON.parse(text) as Page, limit)
    if (answer.status === 503) tally.refused++
    else onFault(`${address} is answered with ${answer.status}: ${text}`)
    await delay(RETRY_MS)
  }

  const run = async () => {
    while (!stopping.signal.aborted) {
      await poll().catch((error: Error) => {
        if (error instanceof SyntaxError) onFault(error.message)
        return delay(draw.below(RETRY_MS))
      })
    }
  }
  const running = run()
  return {
    interest,
    stretches: [stretch],
    reached: (position) =>
      new Promise((resolve) => {
        if ((stretch.claims.at(-1)?.position ?? -1) >= position) resolve()
        else waiting.push({ position, resolve })
      }),
    stop: async () => {
      stopping.abort()
      await running
    },
  }
}
