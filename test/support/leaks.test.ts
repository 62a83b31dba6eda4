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
  const timer = setInterval(() => {}, 1000)
  expect(await leaksSince(before, 50)).toEqual(['1 × Timeout'])
  clearInterval(timer)
})

test('what closes within the time is not a leak', async () => {
  const before = await settledResources()
  setTimeout(() => {}, 100)
  expect(await leaksSince(before, 2000)).toEqual([])
})
