import { Agent, request } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { message } from './documents.js'
import { mark, now } from './marks.js'

export interface Paced {
  /** Number of the mark to when its request was begun. */
  begun: Map<number, number>
  /** From the first request to the last, in milliseconds. */
  milliseconds: number
}

const CONNECTIONS = 64
const TICK_MS = 2
let marks = 0

/** Creates documents at a steady rate, each with a mark of its own, whatever time the answers take. */
export async function pace(url: string, perSecond: number, seconds: number): Promise<Paced> {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS })
  const begun = new Map<number, number>()
  const answers: Promise<void>[] = []
  const started = now()
  const total = Math.max(1, Math.round(perSecond * seconds))
  while (begun.size < total) {
    const due = Math.min(total, 1 + Math.floor(((now() - started) / 1000) * perSecond))
    while (begun.size < due) {
      const number = marks++
      begun.set(number, now())
      answers.push(create(url, agent, number))
    }
    await delay(TICK_MS)
  }
  const milliseconds = now() - started
  await Promise.all(answers).finally(() => agent.destroy())
  return { begun, milliseconds }
}

function create(url: string, agent: Agent, number: number): Promise<void> {
  const { content, ...item } = message(number)
  const body = JSON.stringify({ ...item, content: `${mark(number)} ${content}` })
  return new Promise((answered, failed) => {
    const sent = request(`${url}/api/v1/session_messages`, {
      method: 'POST',
      agent,
      headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
    })
    sent.once('error', failed)
    sent.once('response', (response) => {
      response.resume()
      if (response.statusCode === 201) response.once('end', answered)
      else failed(new Error(`${url} answered ${response.statusCode}`))
    })
    sent.end(body)
  })
}

/** As many documents as lines of an import, each with a mark. */
export function markedLines(count: number): string {
  const items = Array.from({ length: count }, (_, index) => {
    const { content, ...item } = message(index)
    return { ...item, content: `${mark(marks++)} ${content}` }
  })
  return items.map((item) => JSON.stringify(item)).join('\n')
}
