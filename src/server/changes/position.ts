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
