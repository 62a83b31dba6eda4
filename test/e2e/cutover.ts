import type { Document } from 'mongodb'
import { describe, expect, test } from 'vitest'
import { serverIsAvailable } from '../support/mongo.js'
import { contents, missing, moreWrites, startSite } from './support/cutover.js'

// npm run test:cutover
describe.runIf(await serverIsAvailable())('with clients that never rest', { timeout: 300_000 }, () => {
  test('the legacy database is adopted in place, and given back', async () => {
    const site = await startSite({ adopt: true })
    const { traffic, balancer, pool, server, legacy } = site
    await site.follow()
    await site.verified()
    const unasked = await site.step('cutover', '--yes')
    expect(unasked).toMatchObject({ code: 2, stderr: expect.stringContaining('--adopt is missing') })
    expect((await site.messages('mirror')).filter(isOurs)).toEqual([])

    const cut = await site.step('cutover', '--adopt', '--switch-command', balancer.switchCommand(server.url))
    expect(cut).toMatchObject({ code: 0 })
    const originals = await site.archive()
    await moreWrites(site, 20)
    expect(missing([...traffic.acknowledged].slice(0, -2), await contents(pool))).toEqual([])
    expect((await site.messages('mirror')).filter((one) => !isOurs(one))).toEqual([])
    expect(originals.length).toBeGreaterThan(20)
    expect(originals.filter(isOurs)).toEqual([])

    const [changed, deleted] = originals.map(({ id }) => `${server.url}/api/v1/session_messages/${id}`)
    const patch = { method: 'PATCH', headers: { 'content-type': 'application/json' } }
    expect((await fetch(changed ?? '', { ...patch, body: '{"content":"changed since"}' })).status).toBe(200)
    expect((await fetch(deleted ?? '', { method: 'DELETE' })).ok).toBe(true)

    const back = await site.step('rollback', '--switch-command', balancer.switchCommand(legacy.url))
    expect(back).toMatchObject({ code: 0 })
    await moreWrites(site, 20)
    await traffic.stop()
    const held = await site.messages('legacy')
    const gone = new Set([originals[0]?.text, originals[1]?.text])
    const expected = [...traffic.acknowledged].filter((content) => !gone.has(content))
    expect(held.map(({ text }) => text).sort()).toEqual([...expected, 'changed since'].sort())
    expect(held.filter((one) => one.id === originals[2]?.id)).toEqual([originals[2]])
    expect(await site.archive()).toEqual(expect.arrayContaining(originals))
    expect(traffic.errors).toEqual([])
    expect(traffic.reconnects()).toBe(2)
  })
})

/** Whether dualstore wrote a document. */
function isOurs({ dualstore }: Document): boolean {
  return dualstore !== undefined
}
