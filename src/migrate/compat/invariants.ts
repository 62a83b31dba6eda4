import { isDeepStrictEqual } from 'node:util'
import type { Compared } from './compare.js'
import { type Answer, type Exchange, parsed } from './exchange.js'
import { type Difference, isFields, itemsOf, member } from './values.js'

/**
 * What the legacy contract says of every answer, whatever documents there are (sections 2 to 4). It holds where the
 * answers themselves cannot be compared: with the recorded contract, and where defects 1 and 3 of the legacy server
 * make its own pages others.
 */
export function brokenInvariants(compared: Compared): Difference[] {
  const { exchange, route, target } = compared
  if (route.kind === 'create' && target.status < 300) return notEchoed(compared)
  if (route.kind === 'list' && target.status === 200 && exchange.method !== 'HEAD')
    return brokenPage(exchange, route.query, target)
  return []
}

/** What was sent comes back, all but what the server sets. */
function notEchoed({ exchange, target }: Compared): Difference[] {
  const sent = parsed(exchange.body)
  if (!isFields(sent)) return []
  const { id: _, created_at: _created, updated_at: _updated, ...fields } = sent
  return Object.entries(fields).flatMap(([field, value]): Difference[] => {
    const answered = member(target.body, 'data', field)
    if (isDeepStrictEqual(answered, value)) return []
    return [{ where: `body.data.${field} as it was sent`, kind: 'changed', legacy: value, target: answered }]
  })
}

function brokenPage(exchange: Exchange, query: URLSearchParams, target: Answer): Difference[] {
  const items = itemsOf(target.body)
  const times = items.map(({ created_at }) => String(created_at))
  const [limit, offset, total] = ['limit', 'offset', 'total'].map((name) =>
    Number(member(target.body, 'pagination', name)),
  ) as [number, number, number]
  const sortsByTime = (query.get('sort_by') ?? 'created_at') === 'created_at'
  const ascending = query.get('sort_order') === 'asc'
  const ordered = times.toSorted((a, b) => (a < b === ascending ? -1 : a === b ? 0 : 1))
  const sessionId = query.get('session_id')
  const after = query.get('created_after')
  const before = query.get('created_before')
  const outside = (time: string) =>
    (after !== null && Date.parse(time) < Date.parse(after)) ||
    (before !== null && Date.parse(time) > Date.parse(before))

  const broken: Difference[] = []
  const say = (where: string, legacy: unknown, is: unknown) =>
    broken.push({ where, kind: 'changed', legacy, target: is })
  if (items.length > limit) say('body.data.length', `at most ${limit}`, items.length)
  const more = member(target.body, 'pagination', 'has_more')
  if (more !== undefined && more !== offset + limit < total)
    say('body.pagination.has_more', offset + limit < total, more)
  if (sortsByTime && ordered.some((time, index) => time !== times[index]))
    say('body.data[] order', `created_at ${ascending ? 'ascending' : 'descending'}`, times.slice(0, 3))
  const stranger = items.find(({ session_id }) => sessionId !== null && session_id !== sessionId)
  if (stranger !== undefined) say('body.data[].session_id', sessionId, stranger.session_id)
  const beyond = times.find(outside)
  if (beyond !== undefined) say('body.data[].created_at', `from ${after} to ${before}`, beyond)
  const first = exchange.hints?.firstCreatedAt
  if (first !== undefined && times[0] !== first)
    say('body.data[0].created_at', `${first}, because bounds are inclusive`, times[0] ?? 'nothing')
  return broken
}
