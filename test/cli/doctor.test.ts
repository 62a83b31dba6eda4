import { expect, test } from 'vitest'
import { testDatabase } from '../support/database.js'
import { dataDirectory } from '../support/directory.js'
import { listeningServer } from '../support/server.js'
import { dualstore } from './program.js'

const { url } = await testDatabase()

test('stores that are well: exit 0, and everything is told as one JSON document', async () => {
  const directory = await dataDirectory()
  const { code, stdout, stderr } = await dualstore(['doctor', '--json', '--data-dir', directory], {
    env: { DATABASE_URL: url },
  })
  const { healthy, findings } = JSON.parse(stdout) as { healthy: boolean; findings: { check: string }[] }
  expect({ code, healthy }, stderr + stdout).toEqual({ code: 0, healthy: true })
  expect(findings.map(({ check }) => check)).toEqual(
    expect.arrayContaining(['settings', 'postgres', 'transactions', 'schema', 'mirror (embedded)', 'disk']),
  )
})

test('PostgreSQL that is not there: exit 1, with what mends it', async () => {
  const { code, stdout } = await dualstore(['doctor', '--data-dir', await dataDirectory()], {
    env: { DATABASE_URL: 'postgresql://u:secret@127.0.0.1:9/none' },
  })
  expect(code).toBe(1)
  expect(stdout).toMatch(/PROBLEM\tpostgres\t.*ECONNREFUSED.*\tstart it, or correct DATABASE_URL/)
  expect(stdout).not.toContain('secret')
})

test('a running server is looked at from outside', async () => {
  const { base } = await listeningServer()
  const well = await dualstore(['doctor', '--url', base])
  expect(well.code, well.stdout).toBe(0)
  expect(well.stdout).toContain('ok\tstreams')
  const { base: closed } = await listeningServer({ metrics: 'off' })
  const blind = await dualstore(['doctor', '--url', closed])
  expect([blind.code, blind.stdout]).toEqual([1, expect.stringContaining('DUALSTORE_METRICS=on')])
})
