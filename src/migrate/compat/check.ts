import { randomBytes } from 'node:crypto'
import { type Case, readCases, writeCases } from './cases.js'
import { type Compared, compareAnswers, comparedOf } from './compare.js'
import { recordedAnswer, type Variant } from './contract.js'
import type { Answer, AskOptions, Frame, Side } from './exchange.js'
import { type Finding, type Report, reportOf, resultOf } from './findings.js'
import { brokenInvariants } from './invariants.js'
import { isRead, legacyCollections } from './routes.js'
import { classify, type Facts } from './rules.js'
import { type Survey, survey } from './survey.js'
import { type Mode, member } from './values.js'

export interface CheckOptions {
  target: Side
  /** undefined: the recorded contract stands for it. */
  legacy?: Side | undefined
  variant: Variant | 'auto'
  /** The target is asked with a key and the legacy server without a token. */
  keyOnTargetOnly: boolean
  /** Create documents on the target, and delete them again. */
  writeTarget: boolean
  /** Create them on the legacy server too, where they stay. */
  writeLegacy: boolean
  /** How long to wait for a heartbeat of each stream, in milliseconds; 0: not at all. */
  heartbeatMs: number
  /** Ends the walk between two requests; what was found until then is reported. */
  signal: AbortSignal
}

/** How long a stream may take to say that it is there. */
const CONNECT_MS = 3000

/** Asks both servers the same, everything the legacy contract knows, and says what every difference means. */
export async function checkCompatibility(options: CheckOptions): Promise<Report> {
  const { target, legacy, signal } = options
  const found = await survey(target, legacy, options.variant)
  const tag = randomBytes(6).toString('hex')
  const reads = readCases(found.known, found.variant)
  const writes = options.writeTarget ? legacyCollections.flatMap((name) => writeCases(name, tag)) : []
  const walk = createWalk(options, found)
  const results: Finding[] = []
  const all = [...reads, ...writes]
  try {
    for (const [index, one] of all.entries()) {
      if (signal.aborted) break
      results.push(await walk.run(one, index >= reads.length))
    }
  } finally {
    await walk.cleanUp()
  }
  return reportOf(results, {
    target: target.url,
    reference: legacy?.url ?? 'recorded contract',
    variant: found.variant,
    interrupted: signal.aborted,
    notes: [...notesOf(options, found), ...walk.notes],
  })
}

function createWalk(options: CheckOptions, { variant, facts: known }: Survey) {
  const { target, legacy, heartbeatMs, keyOnTargetOnly, writeLegacy } = options
  const facts: Facts = { ...known, keyOnTargetOnly }
  const listening: AskOptions =
    heartbeatMs > 0
      ? { listenMs: heartbeatMs, enough: (frames) => frames.some(isOf('heartbeat')) }
      : { listenMs: CONNECT_MS, enough: (frames) => frames.length > 0 }
  const made: { path: string; onLegacy: boolean }[] = []
  const notes: string[] = []

  const compare = async (one: Case, reference: Side | undefined): Promise<Finding> => {
    const ask = { ...listening, authorized: one.authorized ?? true }
    const [theirs, ours] = await Promise.all([
      reference?.ask(one, ask),
      target.ask({ ...one, path: one.targetPath ?? one.path }, ask),
    ])
    const unauthorized = ours.status === 401 ? one.refusal : undefined
    const expected = theirs ?? recordedAnswer(one, { variant, unauthorized })
    remember(one, ours, reference !== undefined)
    const mode: Mode = reference === undefined ? 'shape' : 'value'
    return resultOf(one.name, mode, classified(comparedOf(one, expected, ours), mode, facts))
  }

  /** Whatever was created is deleted again, what should have been refused too. */
  const remember = ({ method, path }: Case, { status, body }: Answer, onLegacy: boolean) => {
    const id = member(body, 'data', 'id')
    if (method !== 'POST' || status >= 300 || typeof id !== 'string') return
    made.push({ path: `${path}/${encodeURIComponent(id)}`, onLegacy })
  }

  return {
    notes,
    async run(one: Case, writes: boolean): Promise<Finding> {
      const reference = writes && !writeLegacy ? undefined : legacy
      const first = await compare(one, reference)
      // Somebody may have written between the two answers; what stays is a difference.
      return first.class === 'breaking' && reference !== undefined && isRead(one.method)
        ? compare(one, reference)
        : first
    },
    async cleanUp(): Promise<void> {
      let left = 0
      for (const { path } of made) if ((await target.ask({ method: 'DELETE', path })).status !== 200) left++
      if (made.length > 0)
        notes.push(
          `${made.length - left} of ${made.length} documents that were made on the target are deleted again.`,
        )
      const stay = made.filter(({ onLegacy }) => onLegacy).length
      if (stay > 0)
        notes.push(`About ${stay} documents stay on the legacy server, which has no route to delete them.`)
    },
  }
}

/** Every difference of two answers with what it means. */
export function classified(compared: Compared, mode: Mode, facts: Facts) {
  return [...compareAnswers(compared, mode), ...brokenInvariants(compared)].map((difference) =>
    classify(difference, compared, facts),
  )
}

const isOf = (type: string) => (frame: Frame) => (frame.event ?? member(frame.data, 'type')) === type

function notesOf(
  { legacy, variant, writeTarget }: CheckOptions,
  { known, facts, ...found }: Survey,
): string[] {
  const without = known.filter(({ ids }) => ids.length === 0).map(({ collection }) => collection)
  const list = (names: Iterable<string>) => [...names].join(', ')
  return [
    ...(legacy === undefined && variant === 'auto'
      ? [`No legacy server was given: the recorded contract of variant ${found.variant} stands for it.`]
      : []),
    ...(without.length > 0 ? [`No document to read by its id in ${list(without)}.`] : []),
    ...(facts.capped.size > 0
      ? [
          `Legacy lists show only the newest documents of ${list(facts.capped)}: its pages were held to the contract.`,
        ]
      : []),
    ...(facts.duplicated.size > 0
      ? [
          `Several legacy documents share an id in ${list(facts.duplicated)}: its lists were held to the contract.`,
        ]
      : []),
    ...(writeTarget ? [] : ['Nothing was created; --write-tests adds that.']),
  ]
}
