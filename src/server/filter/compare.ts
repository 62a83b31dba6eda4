import type { Json } from '../schemas/item.js'

/**
 * Orders two strings by their code points, as PostgreSQL's COLLATE "C" does in UTF-8: negative, zero or positive.
 * JavaScript's own `<` orders by UTF-16 units, which puts U+1F600 before U+FF5E.
 */
export function compareCodePoints(left: string, right: string): number {
  const length = Math.min(left.length, right.length)
  for (let index = 0; index < length; index++) {
    const a = left.charCodeAt(index)
    const b = right.charCodeAt(index)
    if (a !== b) return weight(a) - weight(b)
  }
  return left.length - right.length
}

/** Moves surrogates, which stand for code points from U+10000 on, behind the rest of the basic plane. */
function weight(unit: number): number {
  if (unit < 0xd800) return unit
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800
}

/** The same text for values that are equal to jsonb, which does not mind the order of an object's keys. */
export function canonicalJson(value: Json): string {
  return JSON.stringify(value, (_key, part: Json) => {
    if (typeof part !== 'object' || part === null || Array.isArray(part)) return part
    const keys = Object.keys(part).sort()
    return Object.fromEntries(keys.map((key) => [key, part[key]]))
  })
}
