import type { Variant } from './contract.js'
import type { Classified, DifferenceClass } from './rules.js'
import type { Mode } from './values.js'

/** From the harmless to what counts. */
export const classes = ['identical', 'additive', 'documented fix', 'breaking'] as const
export type FindingClass = (typeof classes)[number]

/** Differences of one request that are alike, with one of them as the example. */
export interface Found extends Omit<Classified, 'legacy' | 'target'> {
  /** JSON of the example, shortened; "nothing" where a side has none. */
  legacy: string
  target: string
  count: number
}

/** What came out of one request, or of several of one kind. */
export interface Finding {
  name: string
  reference: 'legacy server' | 'recorded contract' | 'recorded answer'
  /** The gravest of its differences. */
  class: FindingClass
  differences: readonly Found[]
  /** How many requests it speaks of. */
  requests: number
}

export interface About {
  /** URL */
  target: string
  /** URL, or "recorded contract". */
  reference: string
  variant: Variant
  interrupted: boolean
  notes: readonly string[]
}

export interface Report extends About {
  /** No breaking difference. */
  compatible: boolean
  /** Requests by class. */
  summary: Readonly<Record<FindingClass, number>>
  findings: readonly Finding[]
}

/** What the differences of one request come to. @param reference "recorded answer": what a client noted down */
export function resultOf(
  name: string,
  mode: Mode,
  differences: readonly Classified[],
  reference: Finding['reference'] = mode === 'value' ? 'legacy server' : 'recorded contract',
): Finding {
  const found = new Map<string, Found>()
  for (const difference of differences) {
    const key = JSON.stringify([difference.where, difference.kind, difference.rule])
    const known = found.get(key)
    const { legacy, target } = difference
    if (known === undefined)
      found.set(key, { ...difference, legacy: brief(legacy), target: brief(target), count: 1 })
    else known.count++
  }
  const all = [...found.values()]
  return { name, reference, class: gravest(all), differences: all, requests: 1 }
}

export function reportOf(findings: readonly Finding[], about: About): Report {
  const summary = Object.fromEntries(classes.map((name) => [name, 0])) as Record<FindingClass, number>
  for (const finding of findings) summary[finding.class] += finding.requests
  return { ...about, compatible: summary.breaking === 0, summary, findings }
}

const BRIEF = 200

function brief(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value)
  return text.length > BRIEF ? `${text.slice(0, BRIEF).toWellFormed()}…` : text
}

function gravest(differences: readonly { class: DifferenceClass }[]): FindingClass {
  const most = Math.max(0, ...differences.map((difference) => classes.indexOf(difference.class)))
  return classes[most] ?? 'breaking'
}
