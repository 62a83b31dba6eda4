import { BSON, type Document } from 'mongodb'
import type { Oddity } from '../../src/migrate/sources/contract.js'
import type { Item, Json } from '../../src/server/schemas/item.js'

const {
  Binary,
  BSONRegExp,
  Code,
  DBRef,
  Decimal128,
  Double,
  Int32,
  Long,
  MaxKey,
  ObjectId,
  Timestamp,
  UUID,
} = BSON
export const at = '2026-01-02T03:04:05.678Z'
export const ms = Date.parse(at)
const later = '2026-02-03T04:05:06.789Z'
const _id = new ObjectId('65a1b2c3d4e5f60718293a4b')
const madeAt = new Date(0x65a1b2c3 * 1000).toISOString()

export const bookkeeping = {
  timestamp: ms,
  vectorWriteSuccess: false,
  vectorWriteError: 'x',
  vectorWriteTimestamp: null,
}

/** A document exactly as the contract says, with changes; undefined takes a member away. */
export function doc(kind: Kind, change: Document = {}, metadata: Document = {}): Document {
  const plain = {
    message: ['hello', { session_id: 'ses_1', role: 'user' }],
    task: ['build', { sessionId: 'ses_1', agentId: 'a1', taskType: 'build', status: 'running' }],
    event: [
      'idle',
      { session_id: 'ses_1', event_type: 'idle', event_data: { a: 1 }, source: 's', severity: 'info' },
    ],
  } as const
  const [text, fields] = plain[kind]
  const whole = { ...fields, updated_at: later, ...bookkeeping, ...metadata }
  const document = { _id, id: 'x1', text, timestamp: at, metadata: without(whole), ...change }
  return without(document)
}
const without = (object: Document) =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined))

/** An item, told by what is different from the one that the plain document means. */
export function item(kind: Kind, change: { [field: string]: unknown } = {}): Item {
  const plain = {
    message: { session_id: 'ses_1', role: 'user', content: 'hello' },
    task: { session_id: 'ses_1', agent_id: 'a1', task_type: 'build', status: 'running' },
    event: { session_id: 'ses_1', event_type: 'idle', event_data: { a: 1 }, source: 's', severity: 'info' },
  }
  return without({ id: 'x1', created_at: at, updated_at: later, ...plain[kind], ...change }) as Item
}
export type Kind = 'message' | 'task' | 'event'
/** A document, what it means, and what is odd about it. */
export type Case = [name: string, kind: Kind, Document, Item, ...Oddity[]]
const rawEvent = (properties: object) => JSON.stringify({ type: 'idle', properties })
const ofSession = rawEvent({ sessionID: 'ses_1', info: { agentId: 'a1', version: '1' } })
const ofPart = { type: 'idle', properties: { part: { sessionID: 'ses_1', name: 'a1' } } }
const others = { other: 1, when: new Date(ms) }
const othersAsJson = { other: 1, when: at }

export const cases: Case[] = [
  ['a message as in the contract', 'message', doc('message'), item('message')],
  ['a task as in the contract', 'task', doc('task'), item('task')],
  ['an event as in the contract', 'event', doc('event'), item('event')],
  [
    'a message with spread metadata',
    'message',
    doc('message', {}, { model: 'm', sessionId: 'mine', createdAt: 'never' }),
    item('message', { metadata: { model: 'm', sessionId: 'mine', createdAt: 'never' } }),
  ],
  [
    'nulls in place of missing fields',
    'task',
    doc('task', {}, { progress: null, inputData: null, outputData: null, errorMessage: null }),
    item('task'),
  ],
  // ids
  ['a number as id', 'task', doc('task', { id: 17 }), item('task', { id: '17' }), 'other_id_type'],
  [
    'a long as id',
    'task',
    doc('task', { id: Long.fromString('9007199254740993') }),
    item('task', { id: '9007199254740993' }),
    'other_id_type',
  ],
  [
    'an ObjectId as id',
    'task',
    doc('task', { id: _id }),
    item('task', { id: _id.toHexString() }),
    'other_id_type',
  ],
  ['no id', 'task', doc('task', { id: undefined }), item('task', { id: `task_${_id}` }), 'missing_id'],
  ['an empty id', 'event', doc('event', { id: '' }), item('event', { id: `event_${_id}` }), 'missing_id'],
  [
    'no id, and text as _id',
    'message',
    doc('message', { _id: 'mine', id: null }),
    item('message', { id: 'mine' }),
    'missing_id',
  ],
  [
    'no id, and something else as _id',
    'message',
    doc('message', { _id: 5, id: null }),
    // The first half of the SHA-256 of {"$numberInt":"5"}
    item('message', { id: 'msg_fb7eda0547aeb11d4efc54f42bf50812' }),
    'missing_id',
  ],
  [
    'a session and an agent by number',
    'task',
    doc('task', {}, { sessionId: 5, agentId: Long.fromNumber(6) }),
    item('task', { session_id: '5', agent_id: '6' }),
    'other_id_type',
  ],
  // times
  ['a time as number', 'task', doc('task', { timestamp: ms }), item('task'), 'timestamp_as_number'],
  ['a time as digits', 'task', doc('task', { timestamp: `${ms}` }), item('task'), 'timestamp_as_number'],
  [
    'a time as long',
    'task',
    doc('task', { timestamp: Long.fromNumber(ms) }),
    item('task'),
    'timestamp_as_number',
  ],
  [
    'a time as double',
    'task',
    doc('task', { timestamp: new Double(ms) }),
    item('task'),
    'timestamp_as_number',
  ],
  [
    'a time as Int32',
    'task',
    doc('task', { timestamp: new Int32(5) }),
    item('task', { created_at: '1970-01-01T00:00:00.005Z' }),
    'timestamp_as_number',
  ],
  ['a time as Date', 'task', doc('task', { timestamp: new Date(ms) }), item('task'), 'timestamp_as_date'],
  [
    'a time as BSON timestamp',
    'task',
    doc('task', { timestamp: new Timestamp({ t: 5, i: 9 }) }),
    item('task', { created_at: '1970-01-01T00:00:05.000Z' }),
    'timestamp_as_date',
  ],
  ...['createdAt', 'created_at', 'timeStamp'].flatMap((name): Case[] => [
    [
      `a time under ${name}`,
      'task',
      doc('task', { timestamp: undefined, [name]: at }, { timestamp: undefined }),
      item('task'),
      'timestamp_under_other_key',
    ],
    [
      `a time under metadata.${name}`,
      'task',
      doc('task', { timestamp: undefined }, { timestamp: undefined, [name]: new Date(ms) }),
      item('task'),
      'timestamp_under_other_key',
      'timestamp_as_date',
    ],
  ]),
  [
    'a time that only its copy has',
    'message',
    doc('message', { timestamp: undefined }),
    item('message'),
    'timestamp_under_other_key',
    'timestamp_as_number',
  ],
  [
    'no time but that of its ObjectId',
    'message',
    doc('message', { timestamp: null }, { timestamp: undefined }),
    item('message', { created_at: madeAt }),
    'timestamp_missing',
  ],
  [
    'a time that is none, which is kept',
    'task',
    doc('task', { timestamp: 'yesterday' }, { timestamp: undefined }),
    item('task', { created_at: madeAt, timestamp: 'yesterday' }),
    'timestamp_missing',
    'extra_field',
  ],
  [
    'updatedAt',
    'task',
    doc('task', { updatedAt: later }, { updated_at: undefined }),
    item('task'),
    'timestamp_under_other_key',
  ],
  [
    'no updated_at',
    'task',
    doc('task', {}, { updated_at: undefined }),
    item('task', { updated_at: at }),
    'default_used',
  ],
  [
    'a second time that differs, which is kept',
    'task',
    doc('task', { created_at: later, updated_at: new Date(Date.parse(later)) }),
    item('task', { metadata_extra: { created_at: later } }),
    'extra_field',
    'value_converted',
  ],
  // text
  ['empty content', 'message', doc('message', { text: '' }), item('message', { content: '' }), 'empty_text'],
  ['no content', 'message', doc('message', { text: null }), item('message', { content: '' }), 'missing_text'],
  [
    'content under its own name',
    'message',
    doc('message', { text: '', content: 'hello' }),
    item('message'),
    'empty_text',
    'other_field_name',
  ],
  ['a task without text', 'task', doc('task', { text: undefined }), item('task'), 'missing_text'],
  [
    'a task with another text, which is kept',
    'task',
    doc('task', { text: 'do it' }),
    item('task', { text: 'do it' }),
    'extra_field',
  ],
  // names
  [
    'fields in snake case',
    'task',
    doc(
      'task',
      {},
      {
        sessionId: undefined,
        session_id: 'ses_1',
        agentId: undefined,
        agent_id: 'a1',
        taskType: undefined,
        task_type: 'build',
        input_data: { a: 1 },
      },
    ),
    item('task', { input_data: { a: 1 } }),
    'other_field_name',
  ],
  [
    'fields in camel case',
    'event',
    doc(
      'event',
      {},
      {
        session_id: undefined,
        sessionId: 'ses_1',
        event_type: undefined,
        eventType: 'idle',
        event_data: undefined,
        eventData: { a: 1 },
      },
    ),
    item('event'),
    'other_field_name',
  ],
  [
    'the event type under type',
    'event',
    doc('event', { text: '' }, { event_type: undefined, type: 'idle' }),
    item('event'),
    'other_field_name',
    'empty_text',
  ],
  [
    'fields beside metadata, without any',
    'message',
    { _id, id: 'x1', text: 'hello', timestamp: at, sessionId: 'ses_1', role: 'user', updated_at: later },
    item('message'),
    'other_field_name',
    'timestamp_under_other_key',
  ],
  [
    'two names with two values, of which one is kept aside',
    'task',
    doc('task', {}, { session_id: 'ses_2' }),
    item('task', { metadata_extra: { session_id: 'ses_2' } }),
    'extra_field',
  ],
  // raw events, text, defaults
  [
    'an event that only its raw form tells',
    'event',
    doc('event', { text: undefined, metadata: { rawEvent: ofSession, updated_at: later } }),
    item('event', {
      event_data: JSON.parse(ofSession).properties,
      source: 'opencode',
      rawEvent: ofSession,
    }),
    'raw_event',
    'missing_text',
    'default_used',
  ],
  [
    'a raw event as object beside metadata, with an agent',
    'task',
    doc('task', { rawEvent: ofPart }, { sessionId: undefined, agentId: undefined }),
    item('task', { rawEvent: ofPart }),
    'raw_event',
  ],
  [
    'a raw event whose content cannot be stored as such',
    'event',
    doc('event', {}, { event_data: undefined, rawEvent: rawEvent({ nul: '\0' }) }),
    item('event', {
      event_data: { rawEvent: rawEvent({ nul: '\0' }) },
      rawEvent: rawEvent({ nul: '\0' }),
    }),
    'raw_event',
  ],
  [
    'a raw event that is no JSON',
    'message',
    doc('message', {}, { rawEvent: '{' }),
    item('message', { metadata: { rawEvent: '{' } }),
  ],
  [
    'the session only in the text',
    'message',
    doc('message', { text: 'see ses_9Z for more' }, { session_id: undefined }),
    item('message', { content: 'see ses_9Z for more', session_id: 'ses_9Z' }),
    'value_from_text',
  ],
  ...(
    [
      ['Hi.\nTASK: fix the build \nNow.', 'fix the build'],
      ['You are a CODE REVIEW SPECIALIST.', 'CODE REVIEW SPECIALIST'],
      ['UUID: 1-2-3 please', '1-2-3'],
    ] as const
  ).map(
    ([text, name]): Case => [
      `the task in ${JSON.stringify(text)}`,
      'task',
      doc('task', { text }, { taskType: undefined }),
      item('task', { task_type: name, text }),
      'value_from_text',
      'extra_field',
    ],
  ),
  [
    'the task as the whole text',
    'task',
    doc('task', { text: 'build' }, { taskType: undefined }),
    item('task'),
    'value_from_text',
  ],
  [
    'defaults of a message',
    'message',
    doc('message', {}, { role: undefined }),
    item('message'),
    'default_used',
  ],
  [
    'defaults of a task',
    'task',
    doc('task', { text: '' }, { agentId: undefined, taskType: null, status: undefined }),
    item('task', { agent_id: 'unknown', task_type: 'general', status: 'pending' }),
    'default_used',
    'empty_text',
  ],
  [
    'defaults of an event',
    'event',
    doc('event', {}, { source: undefined, severity: null, event_data: undefined }),
    item('event', { source: 'opencode', severity: 'info', event_data: {} }),
    'default_used',
  ],
  // what the contract does not name
  [
    'other fields of a message',
    'message',
    doc('message', { top: true, other: 2 }, others),
    item('message', { metadata: { ...othersAsJson, top: true, metadata_extra: { other: 2 } } }),
    'extra_field',
    'value_converted',
  ],
  [
    'other fields of a task',
    'task',
    doc('task', { top: true, other: 2, metadata_extra: 'taken' }, { ...others, id: 'y' }),
    item('task', {
      ...othersAsJson,
      top: true,
      metadata_extra: 'taken',
      metadata_extra_: { id: 'y', other: 2 },
    }),
    'extra_field',
    'value_converted',
  ],
  [
    'metadata that is no object',
    'task',
    { ...doc('task'), ...doc('task').metadata, updated_at: later, timestamp: at, metadata: 'text' },
    item('task', {
      metadata: 'text',
      vectorWriteSuccess: false,
      vectorWriteError: 'x',
      vectorWriteTimestamp: null,
    }),
    'extra_field',
    'other_field_name',
    'timestamp_under_other_key',
  ],
]

/** Values of BSON, and the JSON that keeps their meaning. */
export const values: [unknown, Json][] = [
  [new Date(ms), at],
  [new Date(Number.NaN), 'Invalid Date'],
  [_id, '65a1b2c3d4e5f60718293a4b'],
  [Long.fromNumber(-7), -7],
  [Long.fromString('9007199254740993'), '9007199254740993'],
  [new Int32(3), 3],
  [new Double(0.5), 0.5],
  [new Double(Number.POSITIVE_INFINITY), 'Infinity'],
  [Number.NaN, 'NaN'],
  [Number.NEGATIVE_INFINITY, '-Infinity'],
  [Decimal128.fromString('1.50'), 1.5],
  [Decimal128.fromString('0.1234567890123456789'), '0.1234567890123456789'],
  [Decimal128.fromString('1E+400'), '1E+400'],
  [new Timestamp({ t: 5, i: 2 }), { t: 5, i: 2 }],
  [new Binary(Buffer.from('ab')), 'YWI='],
  [new UUID('01234567-89ab-4def-8123-456789abcdef'), '01234567-89ab-4def-8123-456789abcdef'],
  [new Binary(Buffer.from('ab'), 4), 'YWI='],
  [new BSONRegExp('^a(?i)', 'x'), '/^a(?i)/x'],
  [undefined, null],
  [new Code('f()', { n: new Int32(1) }), { code: 'f()', scope: { n: 1 } }],
  [new DBRef('c', _id), { $ref: 'c', $id: '65a1b2c3d4e5f60718293a4b' }],
  [new MaxKey(), 'MaxKey'],
  [10n ** 20n, '100000000000000000000'],
]

/** What cannot be taken: why, and the id that was found out. */
export const refused: [string, Kind, Document, RegExp, (string | null)?][] = [
  ['a reserved id', 'task', doc('task', { id: 'batch' }), /^id must not be one of the reserved words/, null],
  ['an id with NUL', 'task', doc('task', { id: 'a\0' }), /^id must not contain control/, null],
  ['a long id', 'task', doc('task', { id: 'x'.repeat(513) }), /^id must not be longer/, null],
  ['an object as id', 'task', doc('task', { id: {} }), /^id must be text, a number/, null],
  [
    'no time at all',
    'task',
    doc('task', { _id: 'y', timestamp: null }, { timestamp: null }),
    /^timestamp is missing/,
  ],
  [
    'an unknown role',
    'message',
    doc('message', {}, { role: 'tool' }),
    /^item.role must be one of user, assistant, system/,
  ],
  ['too much progress', 'task', doc('task', {}, { progress: 250 }), /^item.progress must be <= 100/],
  ['an unknown status', 'task', doc('task', {}, { status: 'lost' }), /^item.status must be one of/],
  ['no session', 'message', doc('message', {}, { session_id: null }), /^item.session_id is required/],
  [
    'an event without type',
    'event',
    doc('event', { text: '' }, { event_type: null }),
    /^item.event_type is required/,
  ],
  [
    'a NUL in the text',
    'message',
    doc('message', { text: 'a\0' }),
    /^item.content must not contain the character U\+0000/,
  ],
  [
    'half of a surrogate pair',
    'task',
    doc('task', {}, { note: ['\ud800'] }),
    /^item.note\[0\] must not contain half/,
  ],
  ['text that is none', 'message', doc('message', { text: 5 }), /^item.content must be string/],
]
