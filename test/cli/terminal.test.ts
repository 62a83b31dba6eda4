import { rmSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startServer } from '../support/serve.js'
import { dualstore, freshPath, launch } from './program.js'

// Everything here is remote: prompts and bars are the same, and a command answers sooner.
const dataDir = freshPath('terminal')
const input = `${freshPath('terminal-input')}.ndjson`
let server: Awaited<ReturnType<typeof startServer>>
beforeAll(async () => {
  server = await startServer({ DUALSTORE_DATA_DIR: dataDir })
})
afterAll(async () => {
  await server?.stop()
  for (const path of [dataDir, input]) rmSync(path, { recursive: true, force: true })
})

const env = () => ({ DUALSTORE_URL: server.url, NO_COLOR: '1' })
const onTerminal = (...words: string[]) => launch(['collections', ...words], { terminal: true, env: env() })
const shown = async (name: string) =>
  JSON.parse((await dualstore(['collections', 'show', name, '--json'], { env: env() })).stdout)

test('create without arguments asks for everything, and for a name again when it cannot be one', async () => {
  const child = onTerminal('create')
  await child.seen(/Name:/)
  child.type('Not A Name\r')
  await child.seen(/Lower-case letters/)
  // Ctrl-U empties the line.
  child.type('\u0015journal\r')
  await child.seen(/What do its items look like/)
  child.type('\r')
  await child.seen(/Fields as name:type/)
  child.type('session_id:string!, score:number\r')
  await child.seen(/is called:/)
  child.type('Entry\r')
  await child.seen(/ids start with:/)
  child.type('\r')
  await child.seen(/Index on fields/)
  child.type('session_id, created_at\r')
  const { code, output } = await child.ended
  expect(code, output).toBe(0)
  expect(await shown('journal')).toMatchObject({
    label: 'Entry',
    id_prefix: 'journal',
    schema: {
      type: 'object',
      required: ['session_id'],
      properties: { session_id: { type: 'string' }, score: { type: 'number' } },
    },
    indexes: [{ fields: ['session_id', 'created_at'] }],
  })
})

test('delete goes on only when the name is typed', async () => {
  const mistyped = onTerminal('delete', 'journal')
  await mistyped.seen(/Type journal to go on:/)
  mistyped.type('jurnal\r')
  expect(await mistyped.ended).toMatchObject({
    code: 1,
    output: expect.stringContaining('nothing was deleted'),
  })
  expect(await shown('journal')).toMatchObject({ name: 'journal' })

  const typed = onTerminal('delete', 'journal')
  await typed.seen(/Type journal to go on:/)
  typed.type('journal\r')
  expect(await typed.ended).toMatchObject({ code: 0, output: expect.stringContaining('deleted journal') })
})

test('Ctrl-C at a question ends with 130 and changes nothing', async () => {
  const child = onTerminal('create')
  await child.seen(/Name:/)
  child.type('\u0003')
  expect((await child.ended).code).toBe(130)
})

test('an import shows a bar with rate and time left on a terminal', async () => {
  const lines = Array.from({ length: 20_000 }, (_, n) =>
    JSON.stringify({ session_id: 's', agent_id: 'a', task_type: 't', status: 'pending', n }),
  )
  writeFileSync(input, `${lines.join('\n')}\n`)
  const child = onTerminal('import', 'agent_tasks', input)
  await child.seen(/importing agent_tasks .*%.* documents.*\/s.*(left|finishing)/)
  const { code, output } = await child.ended
  expect(code).toBe(0)
  expect(output).toMatch(/│ 20000 +│ 20000 +│ 0/)
})
