import type { Difference } from '../../mirror/difference.js'

/**
 * What an audit found about one document.
 *
 * missing: PostgreSQL has it and the mirror does not. extra: the mirror has it from us and PostgreSQL does not.
 * different: both have it, not alike. parked: the mirror refused it, and it waits to be retried or skipped.
 * unsettled: it was on its way all the time, so nothing can be said. foreign: another program's; never a difference.
 */
export interface Finding {
  kind: 'missing' | 'extra' | 'different' | 'parked' | 'unsettled' | 'foreign'
  collection: string
  id: string
  /** Of the document in PostgreSQL. */
  version?: number
  differences?: Difference[]
  reason?: string
  /** By a repair: what became of it. */
  outcome?: 'repaired' | 'would_repair' | 'failed' | 'left'
}

export const countedKinds = ['missing', 'extra', 'different', 'parked', 'unsettled', 'foreign'] as const

/** What an audit has counted in one collection. */
export interface Counts extends Record<(typeof countedKinds)[number], number> {
  /** Documents in PostgreSQL that were compared. */
  documents: number
  /** Documents that the sample left out. */
  skipped: number
  chunks: number
  /** Chunks whose hashes differed, and that were looked into. */
  differing_chunks: number
  repaired: number
  failed: number
}

export function noCounts(): Counts {
  return {
    documents: 0,
    skipped: 0,
    chunks: 0,
    differing_chunks: 0,
    missing: 0,
    extra: 0,
    different: 0,
    parked: 0,
    unsettled: 0,
    foreign: 0,
    repaired: 0,
    failed: 0,
  }
}

export function addFinding(counts: Counts, { kind, outcome }: Finding): void {
  counts[kind]++
  if (outcome === 'repaired' || outcome === 'failed') counts[outcome]++
}

export function sumOf(all: readonly Counts[]): Counts {
  const sum = noCounts()
  for (const counts of all) for (const key of Object.keys(sum) as (keyof Counts)[]) sum[key] += counts[key]
  return sum
}
