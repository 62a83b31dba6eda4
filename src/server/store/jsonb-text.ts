import { compareCodePoints } from '../filter/compare.js'
import type { Json } from '../schemas/item.js'

/**
 * The text that PostgreSQL gives for a jsonb made of this value, so that both sides can be hashed alike. A number that
 * was written in another form (1.0 for 1) has another text there: then the hashes differ although the values do not.
 */
export function jsonbText(value: Json): string {
  if (typeof value === 'number') return numericText(value)
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(jsonbText).join(', ')}]`
  const members = Object.keys(value).sort(byLength)
  return `{${members.map((name) => `${JSON.stringify(name)}: ${jsonbText(value[name] as Json)}`).join(', ')}}`
}

/** jsonb orders members by the length of their names in bytes, then by these bytes. */
function byLength(one: string, other: string): number {
  return Buffer.byteLength(one) - Buffer.byteLength(other) || compareCodePoints(one, other)
}

/** PostgreSQL's numeric knows no exponents and no -0. */
function numericText(value: number): string {
  // Not String(value): V8 keeps what that gave last, which moves every such text into the old part of the heap.
  const text = JSON.stringify(value)
  if (!text.includes('e')) return text
  const [digits = '', exponent] = text.split('e')
  const sign = digits.startsWith('-') ? '-' : ''
  const [whole = '', fraction = ''] = digits.replace('-', '').split('.')
  const shift = Number(exponent)
  if (shift < 0) return `${sign}0.${'0'.repeat(-shift - whole.length)}${whole}${fraction}`
  return `${sign}${whole}${fraction.padEnd(shift, '0')}`
}
