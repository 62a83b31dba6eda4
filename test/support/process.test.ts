import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { startProgram } from './process.js'

const script = fileURLToPath(new URL('./fixtures/program.mjs', import.meta.url))

test('starts on a free port, is ready, and ends with its exit code on SIGTERM', async () => {
  const program = await startProgram({ script, flags: ['--agent-name', 'duck'], env: { LOG_LEVEL: 'debug' } })
  expect(program.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
  const [line] = program.logs()
  expect(line).toMatchObject({
    argv: ['serve', '--port', '0', '--agent-name', 'duck'],
    env: { LOG_LEVEL: 'debug' },
  })
  expect(Object.keys(line?.env as object)).not.toContain('VITEST')
  expect(await program.stop()).toEqual({ code: 0, signal: undefined })
  expect(program.logs().at(-1)).toMatchObject({ msg: 'stopped' })
})

test('kill9 ends it without a word', async () => {
  const program = await startProgram({ script })
  expect(await program.kill9()).toEqual({ code: undefined, signal: 'SIGKILL' })
  expect(program.stdout()).not.toContain('stopped')
})

test('a program that ends early fails the start with what it printed', async () => {
  await expect(startProgram({ script, env: { FIXTURE_MODE: 'fail' } })).rejects.toThrow(
    /ended before it was ready \(2\)[\s\S]*INVALID_CONFIG: PORT is "x"/,
  )
})

test('a program that never becomes ready fails the start in time and is ended', async () => {
  await expect(
    startProgram({ script, env: { FIXTURE_MODE: 'never-ready' }, timeoutMs: 700 }),
  ).rejects.toThrow(/not ready within 700 ms[\s\S]*Server listening/)
})

test('until "listening" does not ask whether it is ready', async () => {
  const program = await startProgram({ script, env: { FIXTURE_MODE: 'never-ready' }, until: 'listening' })
  expect((await fetch(`${program.url}/health/ready`, { headers: { connection: 'close' } })).status).toBe(503)
  await program.stop()
})

test('a program that ignores SIGTERM is ended and told about', async () => {
  const program = await startProgram({ script, env: { FIXTURE_MODE: 'deaf' } })
  await expect(program.stop(300)).rejects.toThrow(/did not end within 300 ms/)
  expect((await program.exit).signal).toBe('SIGKILL')
})
