import type { Json } from '../schemas/item.js'
import type { Filter } from './ast.js'

type Members = Record<string, Json>

/**
 * A filter as an object of the language: parseFilter() makes of it again what the same items pass, and printing that
 * gives the same. It is nested no deeper than what the filter was once read from, wherever that can be kept.
 */
export function printFilter(filter: Filter): Members {
  switch (filter.op) {
    case 'and': {
      const parts = filter.of.map(printFilter)
      return merged(parts) ?? { $and: parts }
    }
    case 'or':
      return filter.of.length === 0 ? nothing : { $or: filter.of.map(printFilter) }
    case 'not':
      return negated(filter.of)
    case 'in':
      return under(filter.path, { $in: [...filter.values] })
    case 'exists':
      return under(filter.path, { $exists: true })
    default:
      return under(filter.path, { [`$${filter.op}`]: filter.bound })
  }
}

/** What no item passes: the language has no $or of nothing. */
const nothing: Members = { id: { $in: [] } }

function negated(filter: Filter): Members {
  switch (filter.op) {
    case 'in':
      return under(filter.path, { $nin: [...filter.values] })
    case 'exists':
      return under(filter.path, { $exists: false })
    case 'or':
      return filter.of.length === 0 ? {} : { $nor: filter.of.map(printFilter) }
    default:
      return { $nor: [printFilter(filter)] }
  }
}

function under(path: readonly string[], condition: Members): Members {
  return { [path.join('.')]: condition }
}

/** All members in one object, when no two of them have the same name. */
function merged(parts: readonly Members[]): Members | undefined {
  const entries = parts.flatMap((part) => Object.entries(part))
  if (new Set(entries.map(([name]) => name)).size < entries.length) return undefined
  return Object.fromEntries(entries)
}
