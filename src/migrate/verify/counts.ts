/**
 * What a verification counted in one collection. `checked` is the sum of what became of the source's documents; one
 * that was written while it was verified may be counted twice.
 */
export interface VerifyCounts {
  /** Documents of the source that were compared. */
  checked: number
  /** Stored as they are in the source. */
  equal: number
  /** Another one of their id is stored: they stand in the history, or a client has written since. */
  superseded: number
  /** Stand in the quarantine as they are in the source. */
  quarantined: number
  /** Nowhere. */
  missing: number
  /** Under their id stands another one that is not newer. */
  different: number
  /** Unlike all the time, while somebody followed the source: nothing can be said of them. */
  unsettled: number
  /** Stored documents that the source does not hold. */
  extra: number
  /** As `extra`, and written by clients of dualstore since the migration began: no difference. */
  own: number
}

const KEYS = [
  'checked',
  'equal',
  'superseded',
  'quarantined',
  'missing',
  'different',
  'unsettled',
  'extra',
  'own',
] as const

export function noVerifyCounts(): VerifyCounts {
  return Object.fromEntries(KEYS.map((key) => [key, 0])) as unknown as VerifyCounts
}

export function sumOfVerified(all: Iterable<VerifyCounts>): VerifyCounts {
  const sum = noVerifyCounts()
  for (const counts of all) for (const key of KEYS) sum[key] += counts[key]
  return sum
}

/** How many documents are not on both sides as they must be. */
export function differencesIn({ missing, different, unsettled, extra }: VerifyCounts): number {
  return missing + different + unsettled + extra
}
