/** What the content of a measured document begins with, so that its event is found in a stream without parsing it. */
export const MARK = '@mark:'
const DIGITS = 9
export const MARK_BYTES = MARK.length + DIGITS

export const mark = (number: number): string => `${MARK}${number.toString().padStart(DIGITS, '0')}`

/** The number of the mark that begins at this byte. */
export function numberIn(bytes: Buffer, at: number): number {
  let number = 0
  for (let index = at + MARK.length; index < at + MARK_BYTES; index++)
    number = number * 10 + (bytes[index] ?? 48) - 48
  return number
}

/** Epoch milliseconds with fractions, by the one clock that all processes of the machine share. */
export const now = (): number => performance.timeOrigin + performance.now()
