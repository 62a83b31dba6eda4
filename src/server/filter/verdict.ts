import type { Json } from '../schemas/item.js'
import type { Filter } from './ast.js'
import { matches } from './matches.js'
import { type Path, resolve } from './path.js'

/** A document as the change log shows it, and what is known about it beside. */
export interface Evidence {
  item: Json
  /** The same as JSON text. */
  text: string
  /** Whether the columns created_at and updated_at are sure to hold the item's times. */
  timesHold: boolean
  /** Whether a field may hold an array as far as SQL looks into arrays there (store/may-be-array.ts). */
  mayBeArray(path: Path): boolean
}

/**
 * Whether the rows that a filter selects in PostgreSQL contain a document; undefined when the item alone does not tell.
 * `matches` agrees with SQL on every document that this program writes. What is written past it, through psql for
 * instance, may hold what SQL sees otherwise: times that are not those of the columns, numbers beyond a double, arrays
 * where the schema rules them out.
 */
export function verdict(filter: Filter, evidence: Evidence): boolean | undefined {
  switch (filter.op) {
    case 'and':
      return conclude(filter.of, false, evidence)
    case 'or':
      return conclude(filter.of, true, evidence)
    case 'not': {
      const inner = verdict(filter.of, evidence)
      return inner === undefined ? undefined : !inner
    }
    case 'exists':
      return matches(filter, evidence.item)
    case 'in':
      return isUnsure(filter.path, filter.values, evidence) ? undefined : matches(filter, evidence.item)
    default: {
      const [field] = filter.path
      const time = filter.path.length === 1 && (field === 'created_at' || field === 'updated_at')
      if (time && !evidence.timesHold) return undefined
      return isUnsure(filter.path, [filter.bound], evidence) ? undefined : matches(filter, evidence.item)
    }
  }
}

/** The verdict that one part alone decides, if any part gives it. */
function conclude(parts: readonly Filter[], deciding: boolean, evidence: Evidence): boolean | undefined {
  let result: boolean | undefined = !deciding
  for (const part of parts) {
    const one = verdict(part, evidence)
    if (one === deciding) return deciding
    if (one === undefined) result = undefined
  }
  return result
}

/** Up to 15 digits a decimal number and the double nearest to it compare alike. */
const LONG_NUMBER = /[0-9.]{16}/

function isUnsure(path: Path, values: readonly Json[], { item, text, mayBeArray }: Evidence): boolean {
  if (Array.isArray(resolve(item, path)) && !mayBeArray(path)) return true
  const numbers = values.some((value) => typeof value === 'number' || isComposite(value))
  return numbers && LONG_NUMBER.test(text)
}

function isComposite(value: Json): boolean {
  return typeof value === 'object' && value !== null
}
