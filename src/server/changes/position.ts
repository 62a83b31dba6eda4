/** A place in the log as clients see it: `<epoch>-<position>`. Positions of another epoch mean nothing. */
export interface Position {
  epoch: string
  seq: number
}

export function formatPosition(position: Position): string {
  return `${position.epoch}-${position.seq}`
}

/** Reads what formatPosition wrote; undefined for anything else. */
export function parsePosition(text: string): Position | undefined {
  const [, epoch, digits] = /^([0-9a-f]{8})-(\d{1,15})$/.exec(text) ?? []
  return epoch === undefined || digits === undefined ? undefined : { epoch, seq: Number(digits) }
}

/** The latest of some positions of one log, null where there is none; null when there is none at all. */
export function latestPosition(positions: readonly (string | null)[]): string | null {
  const seqOf = (text: string) => parsePosition(text)?.seq ?? 0
  let latest: string | null = null
  // What was written together has one position: few of many texts differ.
  for (const one of new Set(positions)) {
    if (one !== null && (latest === null || seqOf(one) > seqOf(latest))) latest = one
  }
  return latest
}
