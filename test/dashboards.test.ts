import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { until } from './support/follower.js'
import { bodies, call } from './support/http.js'
import { type Metrics, namesIn, readMetrics } from './support/metrics.js'
import { selectedBy } from './support/promql.js'
import { testServer } from './support/server.js'

interface Rule {
  alert: string
  expr: string
  for: string
  labels: { severity: string }
  annotations: { summary: string }
}

interface Panel {
  id: number
  type: string
  title: string
  gridPos: { x: number; y: number; w: number; h: number }
  targets?: { refId: string; expr: string; legendFormat: string }[]
}

const { groups } = parse(readFileSync('docs/prometheus/alerts.yml', 'utf8')) as {
  groups: { rules: Rule[] }[]
}
const rules = groups.flatMap((group) => group.rules)
const dashboard = JSON.parse(readFileSync('docs/grafana/dualstore.json', 'utf8')) as { panels: Panel[] }
const targets = dashboard.panels.flatMap(({ title, targets = [] }) =>
  targets.map(({ expr, refId }) => [`${title} ${refId}`, expr] as const),
)
const guide = readFileSync('docs/operations.md', 'utf8')

/** What Prometheus makes itself, and the labels that it gives to everything. */
const OF_PROMETHEUS = new Set(['up'])
const TARGET_LABELS = ['instance', 'job']

const app = await testServer()
await call(app, 'POST', '/api/v1/session_messages', { body: bodies.session_messages })
let metrics: Metrics = new Map()
await until(async () => {
  metrics = await readMetrics(app)
  return metrics.get('dualstore_mirror_applied_total') === 1
})
const names = namesIn(metrics)

/** Labels of a metric, as they are printed. */
function labelsOf(metric: string): Set<string> {
  const series = [...metrics.keys()].filter((key) => key.startsWith(`${metric}{`))
  return new Set(series.flatMap((key) => [...key.matchAll(/(\w+)="/g)].map(([, label = '']) => label)))
}

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

test.each([...rules.map(({ alert, expr }) => [alert, expr] as const), ...targets])(
  '%s is PromQL about metrics and labels that there are',
  (_name, expression) => {
    for (const { metric, labels } of selectedBy(expression)) {
      if (OF_PROMETHEUS.has(metric)) continue
      expect(names).toContain(metric)
      const known = [...labelsOf(metric), ...TARGET_LABELS]
      expect(known).toEqual(expect.arrayContaining(labels))
    }
  },
)

test('an expression that is not PromQL, or about nothing, is noticed', () => {
  expect(() => selectedBy('sum by (route (rate(dualstore_log_head[5m]))')).toThrow(/not PromQL/)
  expect(() => selectedBy('1 + 1')).toThrow(/no metric/)
  expect(selectedBy('sum(rate(a_total{b=~"$instance"}[$__rate_interval])) / c')).toEqual([
    { metric: 'a_total', labels: ['b'] },
    { metric: 'c', labels: [] },
  ])
})

test('the panels of the dashboard have ids of their own and do not cover each other', () => {
  const { panels } = dashboard
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
  expect(targets.length).toBeGreaterThan(20)
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) => {
    expect(x + w).toBeLessThanOrEqual(24)
    return Array.from({ length: w * h }, (_, at) => `${x + (at % w)},${y + Math.floor(at / w)}`)
  })
  expect(new Set(cells).size).toBe(cells.length)
})

test('docs/operations.md names every metric of the program', () => {
  const whole = [...names].map((name) => name.replace(/_(bucket|sum|count)$/, ''))
  // A line may name what several have in common once: `dualstore_follower_position`, `_lag_changes`.
  const named = (name: string) =>
    guide.includes(name) || [...guide.matchAll(/`(_\w+)`/g)].some(([, tail = '']) => name.endsWith(tail))
  expect(whole.filter((name) => name.startsWith('dualstore_') && !named(name))).toEqual([])
})
