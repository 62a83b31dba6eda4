import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join, resolve } from 'node:path'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import { testDatabase } from '../support/database.js'
import { bodies, LEGACY } from '../support/http.js'
import { startProgram } from '../support/process.js'
import { virtualEnvironment } from '../support/venv.js'

// npm run test:schemathesis. EXAMPLES changes how many requests are made up for each operation, and so the whole.
const VERSION = '4.32.5'
const SEED = '20240229'
const examples = process.env.EXAMPLES ?? '120'
/** With the default; the number of operations decides the rest. */
const LEAST_REQUESTS = process.env.EXAMPLES === undefined ? 10_000 : 1
const TOKEN = 'schemathesis-legacy-token'

const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_headers_conformance',
  'response_schema_conformance',
]

test('what the OpenAPI document says holds for made up requests, and none of them is a server error', async () => {
  const home = await virtualEnvironment('schemathesis', 'schemathesis', VERSION)
  const folder = await mkdtemp(join(tmpdir(), 'dualstore-schemathesis-'))
  const { url: databaseUrl } = await testDatabase()
  const server = await startProgram({
    env: {
      DATABASE_URL: databaseUrl,
      DUALSTORE_DATA_DIR: folder,
      AUTH_ENABLED: 'true',
      AUTH_BEARER_TOKEN: TOKEN,
      // Requests for tokens come by the hundred here.
      DUALSTORE_AUTH_ATTEMPTS_PER_MINUTE: '0',
    },
    // /health/ready wants the token too.
    until: 'listening',
  })
  try {
    await makeStanding(server.url)
    const counts = join(folder, 'counts.json')
    const run = await execa(
      join(home, 'bin', 'python'),
      [
        // Not through its script, whose first line names the folder it was installed in.
        ...[
          '-c',
          'from schemathesis.cli import schemathesis; schemathesis()',
          'run',
          `${server.url}/docs/json`,
        ],
        ...['-H', `Authorization: Bearer ${TOKEN}`, '--checks', CHECKS.join(',')],
        // They never end: test/server/routes/streaming.test.ts has them.
        ...['--exclude-operation-id', 'stream', '--exclude-operation-id-regex', '^streamCollection'],
        ...[
          '--phases',
          'examples,coverage,fuzzing',
          '--max-examples',
          examples,
          '--seed',
          SEED,
          '--no-shrink',
        ],
        ...['--generation-database', 'none', '--suppress-health-check', 'all', '--warnings', 'off'],
        // A batch of a thousand strict writes of one document is a thousand waits one behind the other.
        ...['--request-timeout', '300', '--no-color', '--continue-on-failure'],
      ],
      {
        cwd: folder,
        reject: false,
        all: true,
        env: {
          SCHEMATHESIS_HOOKS: 'schemathesis_hooks',
          SCHEMATHESIS_COUNTS: counts,
          PYTHONPATH: [resolve('test/e2e/support'), process.env.PYTHONPATH].filter(Boolean).join(delimiter),
          PYTHONDONTWRITEBYTECODE: '1',
        },
      },
    )
    const statuses = JSON.parse(await readFile(counts, 'utf8')) as Record<string, number>
    const requests = Object.values(statuses).reduce((sum, count) => sum + count, 0)
    console.info(`${requests} requests, by status: ${JSON.stringify(statuses)}`)
    expect(run.exitCode, run.all?.slice(-20_000)).toBe(0)
    expect(Object.keys(statuses).filter((status) => status >= '500')).toEqual([])
    expect(server.logs().filter((line) => Number(line.level) >= 50)).toEqual([])
    expect(requests).toBeGreaterThanOrEqual(LEAST_REQUESTS)
  } finally {
    await server.stop()
    await rm(folder, { recursive: true, force: true })
  }
})

/** A document in every collection, and a collection with a schema of many kinds of fields. */
async function makeStanding(url: string): Promise<void> {
  const headers = {
    authorization: `Bearer ${TOKEN}`,
    'content-type': 'application/json',
    connection: 'close',
  }
  const send = async (method: string, path: string, body: object) => {
    const answer = await fetch(`${url}/api/v1/${path}`, { method, headers, body: JSON.stringify(body) })
    expect(answer.status, await answer.text()).toBeLessThan(300)
  }
  const schema = {
    type: 'object',
    required: ['title'],
    properties: {
      title: { type: 'string', minLength: 1, maxLength: 40 },
      code: { type: 'string', pattern: '^[a-z]{2,5}$' },
      at: { type: 'string', format: 'date-time' },
      size: { type: 'integer', minimum: 0, maximum: 10 },
      tags: { type: 'array', items: { type: 'string' }, uniqueItems: true, maxItems: 5 },
      deep: { type: 'object', additionalProperties: { type: 'number' } },
    },
    additionalProperties: false,
  }
  await send('POST', 'collections', {
    name: 'papers',
    schema,
    indexes: [{ fields: ['title'] }, { type: 'text' }],
  })
  await send('PUT', 'papers/standing', { title: 'a' })
  for (const name of LEGACY) await send('PUT', `${name}/standing`, bodies[name] ?? {})
}
