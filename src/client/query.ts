import type { ListQuery, SearchSelection } from './types.js'

type Query = Record<string, string | number | undefined>

/** A selection as the wire has it. */
export function selectionQuery({
  filter,
  sessionId,
  createdAfter,
  createdBefore,
  q,
}: SearchSelection): Query {
  return {
    filter: filter && JSON.stringify(filter),
    session_id: sessionId,
    created_after: timeOf(createdAfter),
    created_before: timeOf(createdBefore),
    q,
  }
}

export function listQuery(query: ListQuery): Query {
  return {
    ...selectionQuery(query),
    limit: query.limit,
    offset: query.offset,
    sort_by: query.sortBy,
    sort_order: query.sortOrder,
    cursor: query.cursor,
    count: query.count,
    fields: query.fields?.join(','),
  }
}

function timeOf(time: Date | string | undefined): string | undefined {
  return typeof time === 'object' ? time.toISOString() : time
}
