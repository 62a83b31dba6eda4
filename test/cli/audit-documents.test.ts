import { rmSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startServer } from '../support/serve.js'
import { dualstore, freshPath } from './program.js'

const dataDir = freshPath('audit')
const LOCAL = { DUALSTORE_DATA_DIR: dataDir, NO_COLOR: '1' }
let server: Awaited<ReturnType<typeof startServer>>

beforeAll(async () => {
  server = await startServer({ DUALSTORE_DATA_DIR: dataDir }, { until: 'listening' })
  const imported = await dualstore(['collections', 'import', 'agent_tasks', '-'], {
    env: LOCAL,
    input: ['a', 'b']
      .map(
        (id) =>
          `${JSON.stringify({ id, session_id: 's', agent_id: 'x', task_type: 't', status: 'pending' })}\n`,
      )
      .join(''),
  })
  expect(imported.code, imported.stderr).toBe(0)
  await fetch(`${server.url}/api/v1/agent_tasks/a`, { method: 'DELETE' })
})
afterAll(async () => {
  await server?.stop()
  rmSync(dataDir, { recursive: true, force: true })
})

describe.each([
  ['the local stores', () => LOCAL],
  ['a running server', () => ({ DUALSTORE_URL: server.url, NO_COLOR: '1' })],
])('on %s', (_where, env) => {
  test('tells who changed documents, the newest last', async () => {
    const all = await dualstore(['audit', '--documents', '--json'], { env: env() })
    expect(all.code, all.stderr).toBe(0)
    expect(JSON.parse(all.stdout)).toMatchObject([
      { author: 'local', address: null, collection: 'agent_tasks', op: 'insert', version: 1 },
      { author: 'local', op: 'insert' },
      { author: 'everyone', address: '127.0.0.1', id: 'a', op: 'delete', position: expect.any(String) },
    ])
    const words = ['audit', '--documents', '--collection', 'agent_tasks', '--id', 'a', '--limit', '1']
    const { stdout } = await dualstore(words, { env: env() })
    expect(stdout).toMatch(/AUTHOR[^\n]*\n[^\n]*everyone\s+127\.0\.0\.1\s+delete\s+agent_tasks\s+a\s/)
    expect(stdout).not.toContain('insert')
  })
})

test.each(['--id', '--collection'])('%s without --documents is wrong usage', async (flag) => {
  const { code, stderr } = await dualstore(['audit', flag, 'x'], { env: LOCAL })
  expect(code).toBe(2)
  expect(stderr).toContain('--documents')
})
