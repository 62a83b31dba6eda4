// ISO 8601 as RFC 3339 narrows it, the date alone included; Date.parse by itself takes far more than that.
const ISO =
  /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?$/
const DATE_LENGTH = '2026-01-01'.length
const ZONED = /(Z|[+-]\d\d:?\d\d)$/

// Years of four digits, so that comparing the texts of times compares the times.
const FIRST = Date.parse('0000-01-01T00:00:00.000Z')
const LAST = Date.parse('9999-12-31T23:59:59.999Z')

/** Epoch milliseconds of an ISO 8601 date or date and time (UTC unless it says otherwise); undefined for anything else. */
export function parseTime(value: unknown): number | undefined {
  if (typeof value !== 'string' || !ISO.test(value)) return undefined
  const day = value.slice(8, DATE_LENGTH)
  // Date.parse takes the 30th of February for the 1st of March.
  if (day > '28' && new Date(value.slice(0, DATE_LENGTH)).getUTCDate() !== Number(day)) return undefined
  const zoned = value.length === DATE_LENGTH || ZONED.test(value) ? value : `${value}Z`
  const time = Date.parse(zoned)
  return isTime(time) ? time : undefined
}

/** True for epoch milliseconds that a document's times can be. */
export function isTime(ms: number): boolean {
  return ms >= FIRST && ms <= LAST
}

let last = { ms: 0, text: new Date(0).toISOString() }

/** The text of a time in epoch milliseconds. Remembers the last: documents of a batch or an import share a moment. */
export function timeText(ms: number): string {
  if (ms !== last.ms) last = { ms, text: new Date(ms).toISOString() }
  return last.text
}
