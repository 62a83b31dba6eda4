import { invalid } from '../../server/errors.js'
import { classified } from './check.js'
import { createCollector } from './collector.js'
import { comparedOf } from './compare.js'
import type { Variant } from './contract.js'
import type { Answer, Exchange, Side } from './exchange.js'
import { type Report, reportOf, resultOf } from './findings.js'
import { isRead } from './routes.js'
import { survey } from './survey.js'
import { type Fields, isFields } from './values.js'

export interface ReplayOptions {
  target: Side
  legacy?: Side | undefined
  /** NDJSON: `{method, path, headers?, body?, expect?}`, blank lines left out. */
  lines: AsyncIterable<string>
  variant: Variant | 'auto'
  keyOnTargetOnly: boolean
  /** Send what writes to the target; and to the legacy server. */
  writeTarget: boolean
  writeLegacy: boolean
  signal: AbortSignal
}

/** A request of somebody's, and what it was answered then. */
interface Recorded extends Exchange {
  expect?: Answer
}

/**
 * Sends recorded requests to both servers and compares the answers, or the target's with what was recorded.
 * @throws INVALID_REQUEST naming the line
 */
export async function replay(options: ReplayOptions): Promise<Report> {
  const { target, legacy, lines, signal, writeTarget, writeLegacy } = options
  const { facts, variant } = await survey(target, legacy, options.variant)
  const collector = createCollector()
  let [number, skipped, alone] = [0, 0, 0]
  for await (const line of lines) {
    if (signal.aborted) break
    number++
    if (line.trim() === '') continue
    const { expect, ...exchange } = recordedOf(line, number)
    const reads = isRead(exchange.method)
    const asksLegacy = expect === undefined && legacy !== undefined && (reads || writeLegacy)
    if (!reads && !writeTarget) {
      skipped++
      continue
    }
    const [theirs, ours] = await Promise.all([
      asksLegacy ? legacy.ask(exchange) : expect,
      target.ask(exchange),
    ])
    if (theirs === undefined) {
      alone++
      continue
    }
    const compared = comparedOf(exchange, theirs, withoutUnrecorded(ours, theirs, expect))
    const differences = classified(compared, 'value', { ...facts, keyOnTargetOnly: options.keyOnTargetOnly })
    const reference = expect === undefined ? 'legacy server' : 'recorded answer'
    collector.add(resultOf(`${exchange.method} ${exchange.path}`, 'value', differences, reference))
  }
  return reportOf(collector.findings(), {
    target: target.url,
    reference: legacy?.url ?? 'recorded answers',
    variant,
    interrupted: signal.aborted,
    notes: [
      ...(skipped > 0 ? [`${skipped} requests that write were left out; --write-tests sends them.`] : []),
      ...(alone > 0 ? [`${alone} requests had nothing to be compared with: give --legacy or expect.`] : []),
    ],
  })
}

/** What was not noted down of an answer is not compared. */
function withoutUnrecorded(ours: Answer, { headers, body }: Answer, expect: Answer | undefined): Answer {
  if (expect === undefined) return ours
  const names = Object.keys(ours.headers).filter((name) => Object.hasOwn(headers, name))
  return {
    ...ours,
    headers: Object.fromEntries(names.map((name) => [name, ours.headers[name] ?? ''])),
    body: body === undefined ? undefined : ours.body,
  }
}

function recordedOf(line: string, number: number): Recorded {
  const fail = (message: string) => invalid(`line ${number}`, message)
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    throw fail('must be one JSON object')
  }
  if (!isFields(value)) throw fail('must be one JSON object')
  const { method = 'GET', path, body, expect } = value
  if (typeof method !== 'string' || !/^[A-Za-z]+$/.test(method))
    throw fail('must have a method such as "GET"')
  if (typeof path !== 'string' || !/^\/[\x21-\x7e]*$/.test(path))
    throw fail('must have a path that starts with / and is percent-encoded')
  if (expect !== undefined && !isFields(expect)) throw fail('must have an object as expect')
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
  const headers = headersOf(value.headers, fail)
  return {
    method: method.toUpperCase(),
    path,
    headers: { ...(text !== undefined && { 'content-type': 'application/json' }), ...headers },
    ...(text !== undefined && { body: text }),
    ...(expect !== undefined && { expect: answerOf(expect, fail) }),
  }
}

function answerOf(expect: Fields, fail: (message: string) => Error): Answer {
  const { status = 200, headers, body } = expect
  if (!Number.isInteger(status)) throw fail('must have a whole number as expect.status')
  return { status: Number(status), headers: headersOf(headers, fail), body }
}

function headersOf(value: unknown, fail: (message: string) => Error): Record<string, string> {
  if (value === undefined) return {}
  const texts = isFields(value) ? Object.entries(value) : undefined
  if (texts === undefined || texts.some(([, text]) => typeof text !== 'string'))
    throw fail('must have headers as an object of texts')
  return Object.fromEntries(texts.map(([name, text]) => [name.toLowerCase(), String(text)]))
}
