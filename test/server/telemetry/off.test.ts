import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { startCollector } from '../../support/collector.js'
import { testDatabase } from '../../support/database.js'
import { dataDirectory } from '../../support/directory.js'
import { startServer } from '../../support/serve.js'

/** Starts the built program, answers a request, and returns the names of the packages that it has loaded by its end. */
async function packagesOf(env: Record<string, string>): Promise<Set<string>> {
  const data = await dataDirectory()
  const directory = dirname(data)
  const list = join(directory, 'modules')
  const script = join(directory, 'start.mjs')
  // Node reports each module that it loads to a hook; the hook's own thread writes it down.
  const hooks = `import { appendFileSync } from 'node:fs'
    export async function load(url, context, next) {
      if (/fastify|opentelemetry|sentry/.test(url)) appendFileSync(${JSON.stringify(list)}, url + '\\n')
      return next(url, context)
    }`
  writeFileSync(
    script,
    `import { register } from 'node:module'
    register('data:text/javascript,' + ${JSON.stringify(encodeURIComponent(hooks))})
    await import(${JSON.stringify(join(process.cwd(), 'dist/bin/dualstore.js'))})`,
  )
  const { url: databaseUrl } = await testDatabase()
  const server = await startServer(
    { DATABASE_URL: databaseUrl, DUALSTORE_DATA_DIR: data, ...env },
    { script },
  )
  try {
    const answer = await fetch(`${server.url}/api/v1/session_messages/none`, {
      headers: { connection: 'close' },
    })
    expect(answer.status).toBe(404)
    expect(answer.headers.get('server-timing')).toBeNull()
    expect((await server.stop()).code).toBe(0)
  } finally {
    await server.kill9()
  }
  const urls = readFileSync(list, 'utf8').split('\n')
  return new Set(urls.flatMap((url) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1] ?? []))
}

const heavy = (names: Set<string>) => [...names].filter((name) => /^@(opentelemetry|sentry)\//.test(name))

test('nothing of OpenTelemetry or Sentry is loaded, and nothing is sent, unless a setting asks for it', async () => {
  const collector = await startCollector()
  const loaded = await packagesOf({
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_TRACES_EXPORTER: 'none',
    SENTRY_DSN: '',
  })
  expect([...loaded]).toContain('fastify')
  // prom-client itself asks for the interface, which does nothing, when something of it is counted.
  expect(heavy(loaded).filter((name) => name !== '@opentelemetry/api')).toEqual([])
  expect(collector.received).toEqual([])
})
