import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import { leaksSince, settledResources } from './leaks.js'

test('a server that is left open is named with its address', async () => {
  const before = await settledResources()
  const server = createServer()
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as { port: number }
  expect(await leaksSince(before, 50)).toEqual([expect.stringMatching(`TCPServerWrap.*${port}`)])
  await new Promise((done) => server.close(done))
  expect(await leaksSince(before)).toEqual([])
})

test('a timer that is left running is named', async () => {
  const before = await settledResources()
  // Several: one that the runner had running before may end meanwhile.
  const timers = Array.from({ length: 5 }, () => setInterval(() => {}, 1000))
  expect(await leaksSince(before, 50)).toEqual([expect.stringMatching(/^\d × Timeout$/)])
  timers.forEach(clearInterval)
})

test('what closes within the time is not a leak', async () => {
  const before = await settledResources()
  setTimeout(() => {}, 100)
  expect(await leaksSince(before, 2000)).toEqual([])
})
