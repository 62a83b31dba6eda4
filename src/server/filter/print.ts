import type { Filter } from './ast.js'

/** A filter as an object of the language: parseFilter() makes the same of it again, and printing that gives the same. */
export function printFilter(filter: Filter): Record<string, unknown> {
  switch (filter.op) {
    case 'and':
      return filter.of.length === 0 ? {} : { $and: filter.of.map(printFilter) }
    case 'or':
      return { $or: filter.of.map(printFilter) }
    case 'not':
      return { $nor: (filter.of.op === 'or' ? filter.of.of : [filter.of]).map(printFilter) }
    case 'in':
      return { [filter.path.join('.')]: { $in: filter.values } }
    case 'exists':
      return { [filter.path.join('.')]: { $exists: true } }
    default:
      return { [filter.path.join('.')]: { [`$${filter.op}`]: filter.bound } }
  }
}
