import { request } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as delay } from 'node:timers/promises'
import type { JobAnswer } from '../../../src/server/schemas/jobs.js'
import type { Finding } from '../../../src/server/services/audit/findings.js'

const API = '/api/v1'

/** Asks a server and gives what it answers as `data`, or its text. */
export async function ask<T>(url: string, path: string, body?: object): Promise<T> {
  const answer = await fetch(`${url}${path}`, {
    headers: { connection: 'close', ...(body && { 'content-type': 'application/json' }) },
    ...(body && { method: 'POST', body: JSON.stringify(body) }),
  })
  const text = await answer.text()
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${text}`)
  return (text.startsWith('{') && !path.endsWith('differences') ? JSON.parse(text) : text) as T
}

/** Imports messages m000000000, m000000001, … of about `bytes` each. */
export async function importMessages(url: string, documents: number, bytes: number): Promise<void> {
  const sending = request(`${url}${API}/session_messages/import`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson', connection: 'close' },
  })
  const answer = new Promise<string>((resolve, reject) => {
    sending.once('error', reject)
    sending.once('response', (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part
      })
      response.once('end', () => resolve(text))
    })
  })
  await pipeline(Readable.from(lines(documents, bytes), { objectMode: true, highWaterMark: 1 }), sending)
  const { data } = JSON.parse(await answer)
  if (data?.created !== documents) throw new Error(`the import failed: ${await answer}`)
}

function* lines(documents: number, bytes: number): Generator<string> {
  let filler = ''
  for (let at = 1; filler.length < bytes - 250; at++) filler += `${Math.sin(at).toString(36).slice(2)} `
  let chunk = ''
  for (let number = 0; number < documents; number++) {
    const id = `m${number.toString().padStart(9, '0')}`
    const metadata = {
      number,
      half: number / 2,
      tags: ['a', `t${number % 97}`],
      nested: { odd: number % 2 === 1 },
    }
    const item = {
      id,
      session_id: `s${number % 1000}`,
      role: 'user',
      content: `${filler}${number}`,
      metadata,
    }
    chunk += `${JSON.stringify(item)}\n`
    if (chunk.length < 64 * 1024) continue
    yield chunk
    chunk = ''
  }
  yield chunk
}

/** Waits until the mirror has everything; tells how far it is every ten seconds. */
export async function mirrored(url: string): Promise<void> {
  for (let looks = 1; ; looks++) {
    const { checks } = await ask<{ checks: { mirror: { lag: number; position: number } } }>(
      url,
      '/health/ready',
    )
    if (checks.mirror.lag === 0 && checks.mirror.position > 0) return
    if (looks % 40 === 0) console.log(`the mirror is ${checks.mirror.lag} changes behind`)
    await delay(250)
  }
}

/** Runs a job to its end, telling each state of it that is seen. */
export async function runJob(
  url: string,
  kind: JobAnswer['kind'],
  options: object,
  onState: (job: JobAnswer) => void = () => {},
): Promise<{ job: JobAnswer; findings: Finding[] }> {
  const { data: started } = await ask<{ data: JobAnswer }>(url, `${API}/dualstore/${kind}`, options)
  for (;;) {
    const { data: job } = await ask<{ data: JobAnswer }>(url, `${API}/dualstore/jobs/${started.id}`)
    onState(job)
    if (job.finished_at === null) {
      await delay(250)
      continue
    }
    const text = await ask<string>(url, `${API}/dualstore/jobs/${started.id}/differences`)
    const findings = text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Finding)
    return { job, findings }
  }
}
