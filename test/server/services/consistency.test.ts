import { expect, test } from 'vitest'
import { readHead } from '../../../src/server/changes/read.js'
import type { Mirror } from '../../../src/server/mirror/contract.js'
import { type Consistency, createConsistency } from '../../../src/server/services/consistency.js'
import { testDatabase } from '../../support/database.js'
import { insertMessages, messages, testFollower, testMirror, until } from '../../support/follower.js'

const { pool } = await testDatabase()
const mirror = await testMirror('embedded')
let gate: Promise<void> = Promise.resolve()
let refuse: Error | undefined
const gated: Mirror = {
  ...mirror,
  async apply(changes) {
    await gate
    if (refuse !== undefined) throw refuse
    return mirror.apply(changes)
  },
}
const { follower, progress } = await testFollower(pool, gated)
const { epoch } = await readHead(pool)
const consistency = (waitTimeoutMs: number, defaultLevel: 'eventual' | 'strict' = 'eventual'): Consistency =>
  createConsistency({ pool, epoch, defaultLevel, waitTimeoutMs, mirror: progress })
const head = async () => (await readHead(pool)).position
follower.run()

function close(): () => void {
  let open: () => void = () => {}
  gate = new Promise((resolve) => {
    open = resolve
  })
  return open
}

test('a strict write is answered when the mirror has it, and not before', async () => {
  const open = close()
  await insertMessages(pool, ['strict'])
  let answered = false
  const waiting = consistency(10_000)
    .afterWrite('strict', await head(), { collection: messages.name, id: 'strict' })
    .then(() => {
      answered = true
    })
  await consistency(10_000).afterWrite('eventual', await head(), { collection: messages.name, id: 'strict' })
  expect(answered).toBe(false)
  open()
  await waiting
  expect((await mirror.get(messages, 'strict'))?.item.content).toBe('hello')
})

test('a wait that times out tells the position, and the write stays', async () => {
  const open = close()
  await insertMessages(pool, ['late'])
  const seq = await head()
  await expect(
    consistency(50).afterWrite('strict', seq, { collection: messages.name, id: 'late' }),
  ).rejects.toMatchObject({
    code: 'WAIT_TIMEOUT',
    status: 504,
    extra: { position: `${epoch}-${seq}` },
  })
  expect((await pool.query(`SELECT FROM dualstore.documents WHERE id = 'late'`)).rowCount).toBe(1)
  open()
  await consistency(10_000).waitFor(`${epoch}-${seq}`, 'mirror')
  expect(await mirror.get(messages, 'late')).toBeDefined()
})

test('a strict write is refused before it is written while the mirror is known to be bad', async () => {
  refuse = new Error('out for the test')
  await insertMessages(pool, ['bad'])
  await until(() => progress.failing)
  expect(() => consistency(1000).beforeWrite('strict')).toThrow(
    expect.objectContaining({ code: 'MIRROR_UNAVAILABLE', status: 503 }),
  )
  expect(() => consistency(1000).beforeWrite('eventual')).not.toThrow()
  refuse = undefined
  await until(() => !progress.failing)
  expect(() => consistency(1000).beforeWrite('strict')).not.toThrow()
})

test('a wait ends when the mirror is paused under it, and says so', async () => {
  const waiting = consistency(60_000).waitFor(consistency(1).format((await head()) + 1), 'mirror')
  progress.ordered({ halted: 'is paused: for a test', rebuilding: false })
  await expect(waiting).rejects.toMatchObject({
    code: 'WAIT_TIMEOUT',
    message: expect.stringContaining('the mirror is paused: for a test, and has not reached'),
  })
  progress.ordered({ halted: undefined, rebuilding: false })
})

test('while the mirror is rebuilt it promises no position, and strict writes go on', async () => {
  const position = consistency(1000).format(await head())
  await consistency(10_000).waitFor(position, 'mirror')
  progress.ordered({ halted: undefined, rebuilding: true })
  await expect(consistency(1000).waitFor(position, 'mirror')).rejects.toMatchObject({
    code: 'MIRROR_UNAVAILABLE',
  })
  expect(() => consistency(1000).beforeWrite('strict')).not.toThrow()
  progress.ordered({ halted: undefined, rebuilding: false })
  await consistency(10_000).waitFor(position, 'mirror')
})

test('the level is the one of the request, else of the setting', () => {
  expect(consistency(1, 'strict').level(undefined)).toBe('strict')
  expect(consistency(1, 'strict').level('eventual')).toBe('eventual')
  expect(consistency(1).level(undefined)).toBe('eventual')
})

test('strict without a mirror is refused', () => {
  const none = createConsistency({
    pool,
    epoch,
    defaultLevel: 'eventual',
    waitTimeoutMs: 10,
    mirror: undefined,
  })
  expect(() => none.beforeWrite('strict')).toThrow(expect.objectContaining({ code: 'MIRROR_UNAVAILABLE' }))
})

test('waiting for a position of the log: reached, not reached in time, of another log, not a position', async () => {
  const now = await head()
  await consistency(10).waitFor(`${epoch}-${now}`, 'postgres')
  await expect(consistency(50).waitFor(`${epoch}-${now + 1}`, 'postgres')).rejects.toMatchObject({
    code: 'WAIT_TIMEOUT',
  })
  const waiting = consistency(10_000).waitFor(`${epoch}-${now + 1}`, 'postgres')
  await insertMessages(pool, ['awaited'])
  await waiting
  const other = epoch === '00000000' ? '00000001' : '00000000'
  for (const bad of [`${other}-1`, 'x', `${epoch}-`]) {
    await expect(consistency(10).waitFor(bad, 'postgres')).rejects.toMatchObject({ code: 'INVALID_REQUEST' })
  }
})
