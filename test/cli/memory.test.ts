import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import { environment, PROGRAM } from './program.js'

const MIB = 1024 * 1024
const TOLD = 'process.on("exit",()=>console.error("maxRSS",process.resourceUsage().maxRSS))'

test('an upload far larger than the memory it may take streams through', async () => {
  // Takes the body and keeps nothing of it, so that only the command line's own memory is looked at.
  let received = 0
  const server = createServer(async (request, response) => {
    for await (const chunk of request) received += (chunk as Buffer).length
    const report = { received: 0, created: 0, replaced: 0, skipped: 0, failed: 0, errors: [], position: null }
    response.end(JSON.stringify({ endpoints: { collections: '/api/v1' }, success: true, data: report }))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const chunk = Buffer.from(`${JSON.stringify({ text: 'x'.repeat(1000) })}\n`.repeat(1000))
  const chunks = Math.ceil((400 * MIB) / chunk.length)
  try {
    const words = [`--import=data:text/javascript,${encodeURIComponent(TOLD)}`, PROGRAM]
    const { exitCode, stderr } = await execa('node', [...words, 'collections', 'import', 'x', '--url', url], {
      env: environment(),
      extendEnv: false,
      reject: false,
      input: Readable.from(Array.from({ length: chunks }, () => chunk)),
    })
    expect(exitCode, stderr).toBe(0)
    expect(received).toBe(chunks * chunk.length)
    // In KiB.
    const maxRss = Number(/maxRSS (\d+)/.exec(stderr)?.[1]) * 1024
    expect(maxRss).toBeLessThan(250 * MIB)
  } finally {
    server.closeAllConnections()
    server.close()
  }
})
