import type { Json } from '../schemas/item.js'
import type { Filter } from './ast.js'

type Members = Record<string, Json>

/**
 * A filter as JSON text of the language in docs/filter.md: what `parseFilter` reads as a filter that the same items
 * pass. It is nested no deeper than the text it was once read from, wherever that can be kept.
 */
export function filterText(filter: Filter): string {
  return JSON.stringify(membersOf(filter))
}

function membersOf(filter: Filter): Members {
  switch (filter.op) {
    case 'and': {
      const parts = filter.of.map(membersOf)
      return merged(parts) ?? { $and: parts }
    }
    case 'or':
      // An $or of nothing cannot be written; nothing passes it.
      return filter.of.length === 0 ? nothing : { $or: filter.of.map(membersOf) }
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

const nothing: Members = { id: { $in: [] } }

function negated(filter: Filter): Members {
  switch (filter.op) {
    case 'in':
      return under(filter.path, { $nin: [...filter.values] })
    case 'exists':
      return under(filter.path, { $exists: false })
    case 'or':
      return filter.of.length === 0 ? {} : { $nor: filter.of.map(membersOf) }
    default:
      return { $nor: [membersOf(filter)] }
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
