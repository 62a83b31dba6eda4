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

/** Equality of JSON values as jsonb has it: the order of an object's keys does not matter. */
export function equalJson(left: Json, right: Json): boolean {
  if (left === right) return true
  if (typeof left !== 'object' || typeof right !== 'object' || left === null || right === null) return false
  if (Array.isArray(left) || Array.isArray(right)) {
    if (!Array.isArray(left) || !Array.isArray(right) || left.length !== right.length) return false
    return left.every((value, index) => equalJson(value, right[index] as Json))
  }
  const keys = Object.keys(left)
  if (keys.length !== Object.keys(right).length) return false
  return keys.every((key) => Object.hasOwn(right, key) && equalJson(left[key] as Json, right[key] as Json))
}
