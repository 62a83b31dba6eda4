import { describe, expect, test } from 'vitest'
import { until } from '../support/follower.js'
import { serverIsAvailable } from '../support/mongo.js'
import { contents, missing, moreWrites, startSite } from './support/cutover.js'

describe.runIf(await serverIsAvailable())('with clients that never rest', { timeout: 120_000 }, () => {
  test('nothing is lost on the way to dualstore, nor on the way back', async () => {
    const site = await startSite({ adopt: false })
    const { traffic, balancer, pool, server, legacy } = site

    expect(await site.step('cutover', '--yes')).toMatchObject({ code: 1, stderr: /no migration was begun/ })
    const follower = await site.follow()
    const early = await site.step('cutover', '--yes')
    expect(early).toMatchObject({ code: 1, stderr: expect.stringContaining('verify') })
    await site.verified()
    const unasked = await site.step('cutover')
    expect(unasked).toMatchObject({ code: 2, stderr: expect.stringContaining('--switch-command') })
    const failed = await site.step('cutover', '--switch-command', 'exit 3')
    expect(failed).toMatchObject({ code: 1, stderr: expect.stringContaining('ended with 3') })
    expect(await site.status()).toMatchObject({ state: 'verified', stragglers: null })

    const cut = await site.step('cutover', '--switch-command', balancer.switchCommand(server.url), '--json')
    expect(cut).toMatchObject({ code: 0 })
    expect(JSON.parse(cut.stdout)).toMatchObject({ state: 'cut_over', stragglers: 0 })
    await moreWrites(site, 20)
    expect(missing([...traffic.acknowledged].slice(0, -2), await contents(pool))).toEqual([])
    const page = await fetch(`${server.url}/api/v1/session_messages?limit=50`).then((answer) => answer.json())
    for (const { id } of (page as { data: { id: string }[] }).data.slice(0, 5)) {
      expect((await fetch(`${server.url}/api/v1/session_messages/${id}`)).status).toBe(200)
    }
    // Asked for again, it is done already.
    expect(await site.step('cutover', '--yes')).toMatchObject({ code: 0 })

    const straggler = { session_id: 'ses_late', role: 'user', content: 'a straggler' }
    await fetch(`${legacy.url}/api/v1/session_messages`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', connection: 'close' },
      body: JSON.stringify(straggler),
    })
    await until(async () => (await contents(pool)).has('a straggler'))
    expect(await site.status()).toMatchObject({ state: 'cut_over', stragglers: 1 })

    const successor = await site.legacyOnMirror()
    const back = await site.step(
      'rollback',
      '--switch-command',
      balancer.switchCommand(successor.url),
      '--json',
    )
    expect(back).toMatchObject({ code: 0 })
    expect(JSON.parse(back.stdout)).toMatchObject({ state: 'rolled_back' })
    expect(await follower.ended).toMatchObject({ code: 0 })
    await moreWrites(site, 20)
    await traffic.stop()
    const held = await site.messages('mirror')
    expect(missing(traffic.acknowledged, new Set(held.map(({ text }) => text)))).toEqual([])
    expect(new Set(held.map(({ id }) => id)).size).toBe(held.length)
    const read = await fetch(`${successor.url}/api/v1/session_messages/${held[0]?.id}`)
    expect(await read.json()).toMatchObject({ success: true, data: { id: held[0]?.id } })

    expect(traffic.errors).toEqual([])
    // One for each of the two switches.
    expect(traffic.reconnects()).toBe(2)
    expect(await site.step('rollback')).toMatchObject({ code: 0 })
    expect(await site.step('finish')).toMatchObject({ code: 1 })
  })
})
