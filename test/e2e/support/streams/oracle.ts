import { isDeepStrictEqual } from 'node:util'
import type { Pool } from '../../../../src/server/db/pool.js'
import type { Item } from './documents.js'
import { describeInterest, type Interest } from './interest.js'
import { keyOf, type Stretch, type Told } from './recording.js'

/** A row of the log, and the document as it was before. */
export interface LogEntry {
  seq: number
  collection: string
  id: string
  op: 'insert' | 'update' | 'delete'
  version: number
  item: Item
  at: number
  /** Worked out from the entries before; null when there was none. */
  before: Item | null
}

export interface LogContent {
  entries: LogEntry[]
  faults: string[]
}

/**
 * Reads the whole log and folds it: `before` of each entry is what the entries in front of it left behind, whatever
 * the column `previous` says, which is held against it.
 */
export async function readLog(pool: Pool): Promise<LogContent> {
  const { rows } = await pool.query<Omit<LogEntry, 'before'> & { previous: Item | null }>(
    'SELECT seq, collection, id, op, version, item, at, previous FROM dualstore.changes ORDER BY seq',
  )
  const faults: string[] = []
  const state = new Map<string, Item>()
  const entries = rows.map(({ previous, ...row }): LogEntry => {
    const key = keyOf(row.collection, row.id)
    const before = state.get(key) ?? null
    if (row.op === 'insert' ? before !== null : before === null)
      faults.push(`${row.op} of ${key} at ${row.seq} does not follow from the log`)
    if (row.op === 'update' && !isDeepStrictEqual(previous, before))
      faults.push(`previous of ${key} at ${row.seq} is not what it was`)
    if (row.op === 'delete' && !isDeepStrictEqual(row.item, before))
      faults.push(`the deleted ${key} at ${row.seq} is not what it was`)
    if (row.op === 'delete') state.delete(key)
    else state.set(key, row.item)
    return { ...row, before }
  })
  return { entries, faults }
}

/** What a client of this interest must be told of an entry; undefined: nothing. */
function due(entry: LogEntry, { wants }: Interest): Told | undefined {
  const now = entry.op === 'delete' ? null : entry.item
  const matched = entry.before !== null && wants(entry.collection, entry.before)
  const matches = now !== null && wants(entry.collection, now)
  if (!matched && !matches) return undefined
  return {
    type: matches ? (matched ? 'update' : 'insert') : 'delete',
    collection: entry.collection,
    // A document that has gone, or has ceased to match, is told as it last matched.
    data: (matches ? now : entry.before) as Item,
    version: entry.version,
    timestamp: new Date(entry.at).toISOString(),
    position: entry.seq,
  }
}

export interface Comparison {
  /** Changes that were received and found where they belong. */
  events: number
  snapshots: number
  /** Promises of "everything up to here", each of which held. */
  claims: number
  violations: string[]
}

/** Holds what one client was told against the log. */
export function compare(
  client: { name: string; interest: Interest; stretches: readonly Stretch[] },
  log: readonly LogEntry[],
): Comparison {
  const all: Told[] = log.flatMap((entry) => due(entry, client.interest) ?? [])
  const result: Comparison = { events: 0, snapshots: 0, claims: 0, violations: [] }
  const object = (what: string) =>
    result.violations.push(`${client.name} (${describeInterest(client.interest)}): ${what}`)
  for (const stretch of client.stretches) {
    const start = stretch.start ?? (stretch.told[0] ? stretch.told[0].position - 1 : Number.POSITIVE_INFINITY)
    const from = firstBehind(all, start)
    const wrong = stretch.told.findIndex((told, index) => !isDeepStrictEqual(told, all[from + index]))
    if (wrong !== -1) {
      const told = JSON.stringify(stretch.told[wrong])
      object(`change ${wrong} behind ${start} is ${told} instead of ${JSON.stringify(all[from + wrong])}`)
    }
    result.events += wrong === -1 ? stretch.told.length : wrong
    for (const { position, count } of stretch.claims) {
      const owed = firstBehind(all, position) - from
      if (owed > count) object(`${count} changes had come at ${position}, and ${owed} were due`)
      result.claims++
    }
  }
  const held = client.stretches.flatMap(({ snapshot }) => snapshot ?? [])
  result.snapshots = held.length
  result.violations.push(...compareSnapshots(client, held, log))
  return result
}

/** One walk through the log for all snapshots of a client: each must be the state of the log at its position. */
function compareSnapshots(
  client: { name: string; interest: Interest },
  snapshots: readonly NonNullable<Stretch['snapshot']>[],
  log: readonly LogEntry[],
): string[] {
  const violations: string[] = []
  const state = new Map<string, Item>()
  let next = 0
  for (const { position, items } of [...snapshots].sort((one, other) => one.position - other.position)) {
    for (let entry = log[next]; entry !== undefined && entry.seq <= position; entry = log[++next]) {
      const key = keyOf(entry.collection, entry.id)
      if (entry.op !== 'delete' && client.interest.wants(entry.collection, entry.item))
        state.set(key, entry.item)
      else state.delete(key)
    }
    const differing = [...new Set([...state.keys(), ...items.keys()])].filter(
      (key) => !isDeepStrictEqual(state.get(key), items.get(key)),
    )
    if (differing.length === 0) continue
    const [key = ''] = differing
    const [has, should] = [items.get(key), state.get(key)].map((item) => JSON.stringify(item))
    violations.push(
      `${client.name} (${describeInterest(client.interest)}): ${differing.length} documents of the snapshot at ` +
        `${position} differ; ${key} is ${has} instead of ${should}`,
    )
  }
  return violations
}

/** The index of the first change behind a position (binary search). */
function firstBehind(changes: readonly Told[], position: number): number {
  let [low, high] = [0, changes.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((changes[middle]?.position ?? 0) <= position) low = middle + 1
    else high = middle
  }
  return low
}
