import type { Browser } from 'playwright-core'
import { beforeAll, describe, expect, test } from 'vitest'
import { chromiumIsAvailable, launchChromium } from '../support/chromium.js'
import { atEndOfFile } from '../support/leaks.js'
import { listeningServer } from '../support/server.js'

describe.runIf(await chromiumIsAvailable())('in a real browser', () => {
  let browser: Browser
  let base: string
  beforeAll(async () => {
    base = (await listeningServer()).base
    browser = await launchChromium()
    atEndOfFile(() => browser.close())
  })

  test('/docs draws every operation, and its policy is broken by nothing', { timeout: 90_000 }, async () => {
    const page = await browser.newPage()
    const said: string[] = []
    const foreign: string[] = []
    page.on('console', (message) => said.push(`${message.type()}: ${message.text()}`))
    page.on('pageerror', (error) => said.push(error.message))
    page.on('request', (request) => {
      if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(base)) foreign.push(request.url())
    })
    const answer = await page.goto(`${base}/docs`)
    expect(answer?.headers()['content-security-policy']).toContain("default-src 'self'")
    await page.waitForSelector('.opblock', { timeout: 60_000 })
    expect(await page.locator('.opblock').count()).toBeGreaterThan(15)
    // Opening one draws its form and its schemas.
    await page.locator('.opblock-summary-control').first().click()
    await page.waitForSelector('.opblock-body')
    expect(await page.locator('.opblock-section').count()).toBeGreaterThan(0)
    expect({ said: said.filter((line) => !/^(log|debug|info):/.test(line)), foreign }).toEqual({
      said: [],
      foreign: [],
    })
    await page.close()
  })

  test('what is stored runs nowhere, even when a browser opens an answer as a page', async () => {
    const content = '<script>document.title = "run"</script><img src=x onerror="document.title = \'run\'">'
    const made = await fetch(`${base}/api/v1/session_messages`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', connection: 'close' },
      body: JSON.stringify({ session_id: 's', role: 'user', content }),
    })
    const { data } = (await made.json()) as { data: { id: string } }
    const page = await browser.newPage()
    const answer = await page.goto(`${base}/api/v1/session_messages/${data.id}`)
    expect(answer?.headers()).toMatchObject({
      'content-type': 'application/json; charset=utf-8',
      'content-security-policy': "default-src 'none';frame-ancestors 'none'",
      'x-content-type-options': 'nosniff',
    })
    expect(await page.title()).toBe('')
    expect(await page.locator('img').count()).toBe(0)
    await page.close()
  })
})
