import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { call } from './support/http.js'
import { namesIn, readMetrics } from './support/metrics.js'
import { testServer } from './support/server.js'

interface Rule {
  alert: string
  expr: string
  for: string
  labels: { severity: string }
  annotations: { summary: string }
}

const { groups } = parse(readFileSync('docs/alerts.yml', 'utf8')) as { groups: { rules: Rule[] }[] }
const rules = groups.flatMap((group) => group.rules)
const guide = readFileSync('docs/operations.md', 'utf8')

/** What Prometheus makes itself. */
const OF_PROMETHEUS = new Set(['up'])
const METRIC = /\b(?:dualstore|process|nodejs)_\w+/g

const app = await testServer()
await call(app, 'GET', '/health/live')
const names = namesIn(await readMetrics(app))

test('every rule is whole, and docs/operations.md says what to do about it', () => {
  expect(rules.length).toBeGreaterThan(10)
  for (const rule of rules) {
    expect(rule).toEqual({
      alert: expect.stringMatching(/^Dualstore\w+$/),
      expr: expect.any(String),
      for: expect.stringMatching(/^\d+[sm]$/),
      labels: { severity: expect.stringMatching(/^(warning|critical)$/) },
      annotations: { summary: expect.any(String) },
    })
    expect(guide).toContain(`| \`${rule.alert}\` |`)
  }
})

test.each(rules.map(({ alert, expr }) => [alert, expr]))(
  '%s asks for metrics that there are',
  (_alert, expr) => {
    const asked = expr.match(METRIC) ?? [...OF_PROMETHEUS].filter((name) => expr.includes(name))
    expect(asked.length).toBeGreaterThan(0)
    expect(asked.filter((name) => !names.has(name) && !OF_PROMETHEUS.has(name))).toEqual([])
  },
)

test('docs/operations.md names every metric of the program', () => {
  const whole = [...names].map((name) => name.replace(/_(bucket|sum|count)$/, ''))
  // A line may name what several have in common once: `dualstore_follower_position`, `_lag_changes`.
  const named = (name: string) =>
    guide.includes(name) || [...guide.matchAll(/`(_\w+)`/g)].some(([, tail = '']) => name.endsWith(tail))
  expect(whole.filter((name) => name.startsWith('dualstore_') && !named(name))).toEqual([])
})
