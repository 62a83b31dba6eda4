import { compareValues, type Difference, type Fields, itemsOf, lengths, member } from './values.js'

const WHERE = 'body.data'
/** Ties longer than this are compared by shape: trying every pair would take too long. */
const LONGEST_TIE = 100

/**
 * Two pages of the same list, item by item. Neither server says in which order items with equal sort values come, so
 * these are matched by what they hold; where a page may end amid such items, any of them may be on it, and they are
 * compared by shape.
 */
export function compareLists(legacyBody: unknown, targetBody: unknown, sortBy: string): Difference[] {
  const [legacy, target] = [itemsOf(legacyBody), itemsOf(targetBody)]
  if (legacy.length !== target.length) return [lengths(legacy, target, WHERE)]
  const whole =
    member(legacyBody, 'pagination', 'has_more') === false && member(legacyBody, 'pagination', 'offset') === 0
  return tiesOf(legacy, sortBy).flatMap(([start, end]) => {
    const cut = !whole && (start === 0 || end === legacy.length) && end - start > 1
    const [left, right] = [legacy.slice(start, end), target.slice(start, end)]
    if (cut || end - start > LONGEST_TIE)
      return left.flatMap((item, index) => compareValues(item, right[index], `${WHERE}[]`, 'shape'))
    return matched(left, right)
  })
}

/** Ranges of items with equal sort values; items without one are equal too. */
function tiesOf(items: readonly Fields[], sortBy: string): [number, number][] {
  const ties: [number, number][] = []
  items.forEach((item, index) => {
    const last = ties.at(-1)
    const tied = index > 0 && items[index - 1]?.[sortBy] === item[sortBy]
    if (tied && last !== undefined) last[1] = index + 1
    else ties.push([index, index + 1])
  })
  return ties
}

/** Each legacy item with the one of the target's that differs least from it. */
function matched(legacy: readonly Fields[], target: readonly Fields[]): Difference[] {
  const left = [...target]
  return legacy.flatMap((item) => {
    const candidates = left.map((candidate) => compareValues(item, candidate, `${WHERE}[]`, 'value'))
    const best = candidates.reduce(
      (least, differences, index) =>
        differences.length < (candidates[least]?.length ?? Number.POSITIVE_INFINITY) ? index : least,
      0,
    )
    left.splice(best, 1)
    return candidates[best] ?? []
  })
}
