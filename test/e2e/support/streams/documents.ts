import type { Draw } from '../random.js'

export type Item = Record<string, unknown>

/** The custom collection that stands from the start, and the one that comes and goes during a run. */
export const CUSTOM = 'notes'
export const LATE = 'late_notes'
export const COLLECTIONS = ['agent_tasks', 'opencode_events', 'session_messages', CUSTOM] as const
export const SESSIONS = ['s0', 's1', 's2', 's3'] as const

/** Documents of one collection in play: few, so that writers meet on them. */
const IDS = 60
/** Large documents that are there from the start, so that a snapshot does not fit into a socket's buffers. */
const LARGE_IDS = 700
const LARGE_TEXT = 'it was there before '.repeat(90)

export const randomId = (draw: Draw): string =>
  draw.chance(0.85) ? randomHotId(draw) : `l${padded(draw.below(LARGE_IDS))}`

export const randomHotId = (draw: Draw): string => `d${padded(draw.below(IDS))}`

const padded = (number: number) => number.toString().padStart(3, '0')

/** The documents that a collection holds before anybody follows. */
export const largeDocuments = (draw: Draw, collection: string): Item[] =>
  Array.from({ length: LARGE_IDS }, (_, number) => ({
    id: `l${padded(number)}`,
    ...randomBody(draw, collection),
    large: LARGE_TEXT,
  }))

const REQUIRED: Readonly<Record<string, (draw: Draw) => Item>> = {
  session_messages: (draw) => ({ role: draw.from(['user', 'assistant', 'system']), content: text(draw) }),
  agent_tasks: (draw) => ({
    agent_id: 'a1',
    task_type: 'plan',
    status: draw.from(['pending', 'running', 'completed', 'failed']),
  }),
  opencode_events: (draw) => ({ event_type: text(draw), event_data: { at: draw.below(9) }, source: 'test' }),
}

/** A body that every collection takes: what its schema asks for, and the fields that filters look at. */
export function randomBody(draw: Draw, collection: string): Item {
  return { session_id: draw.from(SESSIONS), ...REQUIRED[collection]?.(draw), ...randomFields(draw) }
}

/** A merge patch of the fields that filters look at; it may remove some and move the document to another session. */
export function randomPatch(draw: Draw): Item {
  const patch: Item = { ...randomFields(draw), ...(draw.chance(0.3) && { session_id: draw.from(SESSIONS) }) }
  for (const field of ['tag', 'n', 'meta']) if (draw.chance(0.2)) patch[field] = null
  return patch
}

/** Every kind of value, and none, under three names. */
function randomFields(draw: Draw): Item {
  const fields: Item = {}
  if (draw.chance(0.8)) fields.tag = draw.from<unknown>(['a', 'b', 'c', ['a', 'b'], ['c'], 'ä', 7, true])
  if (draw.chance(0.8)) fields.n = draw.from<unknown>([0, 1, 5, 9.5, 12, -3, '5', [3, 15], []])
  if (draw.chance(0.6))
    fields.meta = draw.from<unknown>([{ k: 'x' }, { k: ['x', 'y'] }, { k: null }, { deep: { on: true } }, {}])
  return fields
}

/** What breaks a stream that is framed carelessly: line ends of all sorts, a field name, and wide characters. */
function text(draw: Draw): string {
  return draw.from(['plain', 'two\nlines', 'data: no\n\nid: 1-9', 'cr\r\nlf \u2028 \u2029', '😀 ä', ''])
}
