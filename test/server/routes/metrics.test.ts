import { expect, test } from 'vitest'
import { until } from '../../support/follower.js'
import { bodies, call, create } from '../../support/http.js'
import { namesIn, readMetrics } from '../../support/metrics.js'
import { testServer } from '../../support/server.js'

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

test('what happened is in /metrics, under the pattern of the route', async () => {
  const app = await testServer()
  const item = await create(app, 'session_messages', bodies.session_messages as object)
  await call(app, 'GET', `/api/v1/session_messages/${item.id}`)
  await call(app, 'GET', '/api/v1/session_messages/none')
  await call(app, 'GET', '/nowhere')
  await until(async () => {
    const { json } = await call(app, 'GET', '/health/ready')
    return json.checks.mirror.lag === 0
  })
  const metrics = await readMetrics(app)
  const requests = (labels: string) => metrics.get(`dualstore_http_request_duration_seconds_count{${labels}}`)
  expect(requests('method="POST",route="/api/v1/:collection",status="201"')).toBe(1)
  expect(requests('method="GET",route="/api/v1/:collection/:id",status="200"')).toBe(1)
  expect(requests('method="GET",route="/api/v1/:collection/:id",status="404"')).toBe(1)
  expect(requests('method="GET",route="none",status="404"')).toBe(1)
  expect([...metrics.keys()].filter((key) => key.includes(item.id as string))).toEqual([])
  expect(metrics.get('dualstore_gather_batch_size_sum')).toBe(1)
  expect(metrics.get('dualstore_postgres_up')).toBe(1)
  expect(metrics.get('dualstore_breaker_state{store="postgres"}')).toBe(0)
  expect(metrics.get('dualstore_log_head')).toBe(1)
  expect(metrics.get('dualstore_follower_position{follower="mirror"}')).toBe(1)
  expect(metrics.get('dualstore_follower_lag_changes{follower="mirror"}')).toBe(0)
  expect(metrics.get('dualstore_follower_led{follower="mirror"}')).toBe(1)
  expect(metrics.get('dualstore_parked_documents{follower="mirror"}')).toBe(0)
  expect(metrics.get('dualstore_mirror_applied_total')).toBe(1)
  expect(metrics.get('dualstore_mirror_apply_failures_total{kind="away"}')).toBe(0)
  expect(metrics.get('dualstore_pool_connections{state="total"}')).toBeGreaterThan(0)
  for (const name of [
    'dualstore_event_loop_delay_seconds',
    'process_resident_memory_bytes',
    'dualstore_streams_open',
  ])
    expect(namesIn(metrics)).toContain(name)
})

test('two servers of one process count apart', async () => {
  const [one, other] = [await testServer(), await testServer()]
  await call(one, 'GET', '/health/live')
  const key = 'dualstore_http_request_duration_seconds_count{method="GET",route="/health/live",status="200"}'
  expect((await readMetrics(one)).get(key)).toBe(1)
  expect((await readMetrics(other)).get(key)).toBeUndefined()
})

test('switched off there is no such route', async () => {
  const app = await testServer('embedded', { metrics: 'off' })
  expect((await call(app, 'GET', '/metrics')).status).toBe(404)
})

test('with authentication on they need the token of the API or their own, which opens nothing else', async () => {
  const app = await testServer('embedded', { authBearerToken: 'api-token', metricsToken: 'metrics-token' })
  const status = async (path: string, headers = {}) => (await call(app, 'GET', path, { headers })).status
  expect(await status('/metrics')).toBe(401)
  expect(await status('/metrics', bearer('wrong'))).toBe(401)
  expect(await status('/metrics', bearer('metrics-token'))).toBe(200)
  expect(await status('/metrics', bearer('api-token'))).toBe(200)
  expect(await status('/api/v1/session_messages', bearer('metrics-token'))).toBe(401)
})

test('with authentication off their own token is still asked for', async () => {
  const app = await testServer('embedded', { metricsToken: 'metrics-token' })
  expect((await call(app, 'GET', '/metrics')).status).toBe(401)
  await readMetrics(app, bearer('metrics-token'))
  expect((await call(app, 'GET', '/api/v1/session_messages')).status).toBe(200)
})
