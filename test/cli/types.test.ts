import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { generateTypes } from '../../src/cli/types/generate.js'
import { shippedCollections } from '../../src/server/schemas/shipped-collections.js'
import { compileErrors, partsOf } from '../support/compile.js'
import { startServer } from '../support/serve.js'
import { dualstore, freshPath } from './program.js'

const dataDir = freshPath('types-data')
// In the project, so that what is compiled finds the client.
const folder = join('dist', `types-${process.pid}`)
let server: Awaited<ReturnType<typeof startServer>>
beforeAll(async () => {
  mkdirSync(folder, { recursive: true })
  server = await startServer({ DUALSTORE_DATA_DIR: dataDir }, { until: 'listening' })
})
afterAll(async () => {
  await server?.stop()
  for (const path of [dataDir, folder]) rmSync(path, { recursive: true, force: true })
})

const object = { type: 'object' }
const collection = (name: string, schema: object, label = 'Document') => ({
  name,
  label,
  schema: { ...object, ...schema },
})

/** Compiles what was written, and code that uses it beside it. */
function errorsOf(types: string, use = ''): string[] {
  const [file, other] = [join(folder, 'dualstore.ts'), join(folder, 'use.ts')]
  writeFileSync(file, types)
  writeFileSync(other, `import type * as all from './dualstore.js'\n${use}\nexport type { all }\n`)
  return compileErrors([file, other], { lib: ['lib.es2023.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts'] })
}

test('the client is typed by what is written', async () => {
  const types = await generateTypes([
    ...shippedCollections,
    collection('closed', {
      properties: { n: { type: 'number' } },
      required: ['n'],
      additionalProperties: false,
    }),
    collection('tree', {
      properties: { root: { $ref: '#/definitions/node' } },
      definitions: { node: { ...object, properties: { left: { $ref: '#/definitions/node' } } } },
    }),
    collection('either', {
      anyOf: [
        { ...object, required: ['a'], properties: { a: { type: 'string' } } },
        { ...object, required: ['b'], properties: { b: { type: 'string' } } },
      ],
    }),
  ])
  const use = `
    import { createClient } from '../../src/client/index.js'
    import type { AgentTasksItem, Collections } from './dualstore.js'
    const client = createClient<Collections>({ url: '' })
    export async function work(): Promise<string> {
      const tasks = client.collection('agent_tasks')
      const { item } = await tasks.create({ session_id: 's', agent_id: 'a', task_type: 't', status: 'pending', more: 1 })
      const status: 'pending' | 'running' | 'completed' | 'failed' = item.status
      const progress: number | undefined = item.progress
      await tasks.patch(item.id, { error_message: null, progress: 1 })
      // @ts-expect-error no such status
      await tasks.create({ session_id: 's', agent_id: 'a', task_type: 't', status: 'asleep' })
      // @ts-expect-error a field is missing
      await tasks.create({ session_id: 's' })
      // @ts-expect-error no such collection
      client.collection('agent_taskz')
      const closed = client.collection('closed')
      await closed.put('x', { n: 1 })
      // @ts-expect-error no such field
      await closed.put('x', { n: 1, m: 2 })
      const tree = await client.collection('tree').get('x')
      const deep = tree?.item.root?.left?.left
      await client.collection('either').create({ b: 'x' })
      for await (const event of client.stream({ collections: ['agent_tasks', 'closed'] })) {
        if (event.type === 'ready') return event.position
        if (event.type === 'insert' && event.collection === 'closed') return String(event.item.n.toFixed())
        if (event.type === 'update' && event.collection === 'agent_tasks') {
          const task: AgentTasksItem = event.item
          return task.created_at
        }
      }
      return status + progress + String(deep)
    }`
  expect(errorsOf(types, use)).toEqual([])
})

const nasty = [
  '*/ export const owned = 1 /*',
  '"; owned()',
  '`$' + '{owned}`',
  'a\nb',
  '\u2028',
  '__proto__',
  '',
]

test('what an operator writes into a definition stays text and types', async () => {
  const schemas = nasty.map((text, n) =>
    collection(
      `c${n}`,
      {
        title: text,
        description: text,
        $comment: text,
        tsType: 'any }; export const owned = 1; type X = { a: any',
        properties: {
          [`p${text}`]: { type: 'string', title: text, description: text, enum: [text, 'x'] },
          level: { enum: ['a'], tsEnumNames: ['owned'] },
          constructor: { type: 'boolean' },
          '[k: string]': { const: text },
        },
        patternProperties: { [`^${text.replace(/[*"`$]/g, '\\$&')}*/ x */`]: { type: 'number' } },
        additionalProperties: false,
        definitions: {
          [`d${text}`]: { title: text, type: 'string' },
          Fields: { ...object, title: 'Fields' },
        },
        allOf: [{ $ref: '#/definitions/Fields' }],
      },
      text,
    ),
  )
  const types = await generateTypes(schemas)
  expect(errorsOf(types)).toEqual([])
  const { statements, identifiers } = partsOf(types)
  expect([...statements].toSorted()).toEqual([
    'InterfaceDeclaration',
    'ModuleDeclaration',
    'TypeAliasDeclaration',
  ])
  expect(identifiers).not.toContain('owned')
})

test('references out of a schema are followed neither into files nor the network', async () => {
  let asked = 0
  const elsewhere = createServer((_request, response) => {
    asked++
    response.end('{"type":"string"}')
  }).listen(0, '127.0.0.1')
  try {
    await new Promise((resolve) => elsewhere.once('listening', resolve))
    const { port } = elsewhere.address() as { port: number }
    writeFileSync(join(folder, 'secret.json'), '{"properties": {"found": {"const": "secret"}}}')
    const refs = [
      `http://127.0.0.1:${port}/x.json`,
      join(folder, 'secret.json'),
      `file://${folder}/secret.json`,
    ]
    const properties = Object.fromEntries(refs.map((ref, n) => [`p${n}`, { $ref: ref }]))
    const types = await generateTypes([
      collection('refs', { properties: { ...properties, q: { $ref: '#/nowhere' } } }),
    ])
    expect(types).toContain('p0?: unknown')
    expect(types).not.toContain('secret')
    expect(asked).toBe(0)
  } finally {
    elsewhere.close()
  }
})

test('names that differ in underscores alone stay apart', async () => {
  const names = ['a_b', 'a__b', 'a_b_2', 'ab', 'collections_', 'server_fields', 'x_item', 'x']
  const types = await generateTypes(names.map((name) => collection(name, {})))
  expect(errorsOf(types)).toEqual([])
  const items = [...types.matchAll(/^ {2}(\w+): (\w+Item)$/gm)]
  expect(items.map(([, name]) => name).toSorted()).toEqual(names.toSorted())
  expect(new Set(items.map(([, , type]) => type)).size).toBe(names.length)
})

test('schemas of any shape compile', async () => {
  const leaf = fc.oneof(
    fc.record({ type: fc.constantFrom('string', 'number', 'integer', 'boolean', 'null', 'array', 'object') }),
    fc.record({ enum: fc.uniqueArray(fc.jsonValue({ maxDepth: 1 }), { minLength: 1, maxLength: 3 }) }),
    fc.record({ const: fc.jsonValue({ maxDepth: 1 }), description: fc.string({ unit: 'grapheme' }) }),
    fc.record({ type: fc.constant('string'), nullable: fc.constant(true) }),
    fc.record({
      $ref: fc.constantFrom('#', '#/definitions/one', '#/properties/plain', 'other.json', '#/not/there'),
    }),
    fc.boolean(),
  )
  const { schema } = fc.letrec<{ schema: unknown }>((tie) => ({
    schema: fc.oneof(
      { maxDepth: 3, withCrossShrink: true },
      leaf,
      fc.record({
        type: fc.constant('object'),
        properties: fc.dictionary(fc.string({ maxLength: 5 }), tie('schema'), { maxKeys: 3 }),
        additionalProperties: fc.oneof(fc.boolean(), tie('schema')),
        patternProperties: fc.dictionary(fc.string({ maxLength: 5 }), tie('schema'), { maxKeys: 1 }),
      }),
      fc.record({
        type: fc.constant('array'),
        items: fc.oneof(tie('schema'), fc.array(tie('schema'), { maxLength: 3 })),
      }),
      fc.record({ anyOf: fc.array(tie('schema'), { minLength: 1, maxLength: 3 }) }),
      fc.record({ allOf: fc.array(tie('schema'), { minLength: 1, maxLength: 2 }) }),
    ),
  }))
  const samples = fc.sample(schema, { numRuns: 150, seed: 7 })
  const types = await generateTypes(
    samples.map((sample, n) =>
      collection(`c${n}`, {
        properties: { x: sample, plain: object },
        definitions: { one: { ...object, properties: { y: sample } } },
      }),
    ),
  )
  expect(errorsOf(types)).toEqual([])
})

test('the command writes all collections, or those named, from local stores and from a server alike', async () => {
  const local = await dualstore(['types'], { env: { DUALSTORE_DATA_DIR: dataDir } })
  expect(local).toMatchObject({ code: 0 })
  expect(local.stdout).toMatch(/export interface Collections \{\n {2}agent_tasks: AgentTasksItem\n/)
  const remote = await dualstore(['types', '--url', server.url], { env: { VERBOSE: '1' } })
  expect(remote.stdout).toBe(local.stdout)
  const some = await dualstore(['types', 'opencode_events', '--url', server.url])
  expect(some.stdout.match(/^ {2}\w+: \w+Item$/gm)).toEqual(['  opencode_events: OpencodeEventsItem'])
  expect(await dualstore(['types', 'nowhere', '--url', server.url])).toEqual({
    code: 1,
    stdout: '',
    stderr: 'error: there is no collection "nowhere"\n',
  })
})

test('--out overwrites what the command wrote itself, and nothing else without --yes', async () => {
  const out = join(folder, 'out.ts')
  const run = (...more: string[]) => dualstore(['types', '--out', out, '--url', server.url, ...more])
  for (let again = 0; again < 2; again++) {
    expect(await run()).toEqual({
      code: 0,
      stdout: '',
      stderr: `wrote the types of 3 collections to ${out}\n`,
    })
  }
  expect(errorsOf(readFileSync(out, 'utf8'))).toEqual([])
  writeFileSync(out, 'mine')
  expect(await run()).toMatchObject({ code: 2, stderr: expect.stringContaining('--yes overwrites it') })
  expect(readFileSync(out, 'utf8')).toBe('mine')
  expect((await run('--yes')).code).toBe(0)
  expect((await dualstore(['types', '--out', join(folder, 'no', 'x.ts'), '--url', server.url])).code).toBe(2)
})
