import { expect, test } from 'vitest'
import { classified } from '../../src/migrate/compat/check.js'
import { comparedOf } from '../../src/migrate/compat/compare.js'
import type { Answer, Exchange } from '../../src/migrate/compat/exchange.js'
import { resultOf } from '../../src/migrate/compat/findings.js'
import { type Facts, rules } from '../../src/migrate/compat/rules.js'

const JSON_TYPE = { 'content-type': 'application/json' }
const noFacts: Facts = { capped: new Set(), duplicated: new Set(), keyOnTargetOnly: false }
const answer = (status: number, body: unknown, more: Partial<Answer> = {}): Answer => ({
  status,
  headers: JSON_TYPE,
  body,
  ...more,
})
const item = (data: object) => answer(200, { success: true, data })
const page = (data: object[], total = data.length) =>
  answer(200, { success: true, data, pagination: { total, limit: 50, offset: 0, has_more: total > 50 } })
const failure = (status: number, error = 'text') => answer(status, { success: false, error })
const stream = (...frames: Answer['frames'] & object) => answer(200, undefined, { frames })
const connection = (event: string | undefined) => ({ event, data: { type: 'connection' } })

interface Example {
  rule: string
  asked?: Partial<Exchange>
  legacy: Answer
  target: Answer
  facts?: Partial<Facts>
  /** Nearly the same, which is breaking. */
  but: { asked?: Partial<Exchange>; legacy?: Answer; target?: Answer; facts?: Partial<Facts> }
}

const LIST = '/api/v1/agent_tasks'
const ITEM = `${LIST}/task_1`
const STREAM = '/api/v1/stream/agent_tasks'
const MADE_UP = 'task_ses_1_0_1700000000000'
const older = { id: 'task_1', status: 'pending', updated_at: '2024-01-01T00:00:00.000Z' }
const newer = { id: 'task_1', status: 'failed', updated_at: '2024-01-02T00:00:00.000Z' }
const agentTasks = new Set(['agent_tasks'])
const post = (body: object) => ({ method: 'POST', path: LIST, body: JSON.stringify(body) })
const star = { ...JSON_TYPE, 'access-control-allow-origin': '*' }
const withCredentials = { ...star, 'access-control-allow-credentials': 'true' }
const own = { ...JSON_TYPE, 'access-control-allow-origin': 'https://app.example' }

const examples: readonly Example[] = [
  {
    rule: 'an update is the next version',
    asked: { path: ITEM },
    legacy: item(older),
    target: item(newer),
    but: { legacy: item(newer), target: item(older) },
  },
  {
    rule: 'ids of lists answer',
    legacy: page([{ id: MADE_UP }]),
    target: page([{ id: 'task_1' }]),
    but: { target: page([{ id: 1 }]) },
  },
  {
    rule: 'lists see every document',
    legacy: page([{ id: 'a' }], 1000),
    target: page([{ id: 'b' }], 1203),
    facts: { capped: agentTasks },
    but: { facts: {} },
  },
  {
    rule: 'filter is applied',
    asked: { path: `${LIST}?filter=%7B%7D` },
    legacy: page([{ id: 'a' }, { id: 'b' }]),
    target: page([{ id: 'a' }]),
    but: { asked: { path: LIST } },
  },
  {
    rule: 'objects come back',
    asked: { path: ITEM },
    legacy: item({ input_data: {} }),
    target: item({ input_data: { a: 1 } }),
    but: { target: item({ input_data: 'text' }) },
  },
  {
    rule: 'a bad request is no 500',
    asked: { path: `${LIST}?limit=0` },
    legacy: failure(500),
    target: failure(400),
    but: { asked: { path: LIST, hints: { bad: false } } },
  },
  {
    rule: 'a failed read is no empty list',
    asked: { path: `${LIST}?created_after=yesterday` },
    legacy: page([]),
    target: failure(400),
    but: { legacy: page([{ id: 'a' }]) },
  },
  {
    rule: 'one envelope for failures',
    asked: { path: '/nothing' },
    legacy: answer(404, { statusCode: 404, error: 'Not Found', message: 'no route' }),
    target: failure(404, 'Not found'),
    but: { target: answer(404, { error: 'Not found' }) },
  },
  {
    rule: 'what the client sent is what is stored',
    asked: { ...post({ id: 'mine' }) },
    legacy: answer(201, { success: true, data: { id: 'mine' } }),
    target: failure(409),
    but: { asked: { ...post({}) } },
  },
  {
    rule: 'streams open',
    asked: { path: STREAM },
    legacy: answer(0, undefined, { failure: 'socket hang up' }),
    target: stream(connection('connection')),
    but: { target: failure(503) },
  },
  {
    rule: 'streams have one form unless asked',
    asked: { path: STREAM },
    legacy: stream(connection(undefined)),
    target: stream(connection('connection')),
    but: { asked: { path: `${STREAM}?format=message` } },
  },
  {
    rule: 'no credentials with *',
    legacy: { ...page([]), headers: withCredentials },
    target: { ...page([]), headers: star },
    but: {
      legacy: { ...page([]), headers: { ...own, 'access-control-allow-credentials': 'true' } },
      target: { ...page([]), headers: own },
    },
  },
  {
    rule: 'no vector copy',
    asked: { path: '/debug/dualstore-data' },
    legacy: answer(200, { agent_tasks: [{ id: 'a', metadata: { vectorWriteSuccess: true } }] }),
    target: answer(200, { agent_tasks: [{ id: 'a', metadata: { vectorWriteSuccess: false } }] }),
    but: { target: answer(200, { agent_tasks: [{ id: 'a' }] }) },
  },
  {
    rule: 'raw documents are not for anyone',
    asked: { path: '/debug/dualstore-data' },
    legacy: answer(200, {}),
    target: failure(403),
    but: { target: failure(500) },
  },
  {
    rule: 'a key is needed',
    legacy: page([]),
    target: failure(401),
    facts: { keyOnTargetOnly: true },
    but: { facts: {} },
  },
  {
    rule: 'raw documents are stored otherwise',
    asked: { path: '/debug/dualstore-data' },
    legacy: answer(200, { agent_tasks: [{ id: 'a', timestamp: 1700000000000 }] }),
    target: answer(200, { agent_tasks: [{ id: 'a', timestamp: '2023-11-14T22:13:20.000Z' }] }),
    but: { target: answer(200, { agent_tasks: [{ id: 'a' }] }) },
  },
  {
    rule: 'more methods',
    asked: { method: 'DELETE', path: ITEM },
    legacy: failure(404),
    target: item({ id: 'task_1' }),
    but: { target: failure(500) },
  },
  {
    rule: 'more for browsers',
    asked: { method: 'OPTIONS', path: LIST },
    legacy: { ...answer(204, undefined), headers: { 'access-control-allow-methods': 'GET,POST' } },
    target: { ...answer(204, undefined), headers: { 'access-control-allow-methods': 'GET, POST, PUT' } },
    but: { target: { ...answer(204, undefined), headers: { 'access-control-allow-methods': 'GET, PUT' } } },
  },
  {
    rule: 'more members',
    asked: { path: ITEM },
    legacy: item({ id: 'task_1' }),
    target: item({ id: 'task_1', note: 'new' }),
    but: { legacy: item({ id: 'task_1', note: 'new' }), target: item({ id: 'task_1' }) },
  },
]

const finding = (given: Omit<Example, 'rule' | 'but'>) => {
  const exchange: Exchange = { method: 'GET', path: LIST, ...given.asked }
  const compared = comparedOf(exchange, given.legacy, given.target)
  return resultOf('', 'value', classified(compared, 'value', { ...noFacts, ...given.facts }))
}

test('every rule has an example, and the defects are those of the list', () => {
  expect(examples.map(({ rule }) => rule)).toEqual(rules.map(({ name }) => name))
  for (const rule of rules) {
    expect(rule.sentence, rule.name).toMatch(/\.$/)
    expect(rule.defect === undefined, rule.name).toBe(rule.class === 'additive')
  }
})

test.each(examples)('$rule: allowed; nearly the same is breaking', ({ rule, but, ...given }) => {
  const allowed = finding(given)
  expect(allowed.differences.map((difference) => difference.rule)).toContain(rule)
  expect(allowed.class).toBe(rules.find(({ name }) => name === rule)?.class)
  expect(finding({ ...given, ...but }).class).toBe('breaking')
})

test('answers that are alike are identical, whatever times and generated ids are in them', () => {
  const at = (second: string) => `2024-01-01T00:00:${second}.000Z`
  const created = (id: string, second: string) =>
    answer(201, { success: true, data: { id, created_at: at(second), updated_at: at(second), status: 'x' } })
  const asked = { ...post({ status: 'x' }) }
  const [legacy, target] = [
    created('task_1700000000000_abcdefgh1', '01'),
    created('task_1700000000009_zzzzzzzz9', '02'),
  ]
  expect(finding({ asked, legacy, target })).toMatchObject({ class: 'identical', differences: [] })
  expect(finding({ asked, legacy, target: created('1700000000009', '02') }).class).toBe('breaking')
})

test('items with equal times are the same in any order, others are not', () => {
  const [a, b, c] = [
    { id: 'a', created_at: '2024-01-02T00:00:00.000Z' },
    { id: 'b', created_at: '2024-01-02T00:00:00.000Z' },
    { id: 'c', created_at: '2024-01-01T00:00:00.000Z' },
  ]
  expect(finding({ legacy: page([a, b, c]), target: page([b, a, c]) }).class).toBe('identical')
  expect(finding({ legacy: page([a, b, c]), target: page([c, a, b]) }).class).toBe('breaking')
})

test('a server that does not answer is no server that answers alike', () => {
  const gone = answer(0, undefined, { failure: 'connect ECONNREFUSED' })
  expect(finding({ legacy: gone, target: gone }).class).toBe('breaking')
})

test('what a document holds is compared by value, times and ids in it too', () => {
  const event = (data: object) => item({ event_data: data })
  const asked = { path: '/api/v1/opencode_events/event_1' }
  for (const [left, right] of [
    [{ timestamp: '2024-01-01T00:00:00.000Z' }, { timestamp: '2024-01-02T00:00:00.000Z' }],
    [{ client_id: 'a' }, { client_id: 'b' }],
  ] as const) {
    expect(finding({ asked, legacy: event(left), target: event(right) }).class).toBe('breaking')
  }
})
