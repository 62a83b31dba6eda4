import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { generateTypes } from '../../src/cli/types/generate.js'
import { shippedCollections } from '../../src/server/schemas/shipped-collections.js'
import { compileErrors } from '../support/compile.js'

test('the client compiles with what a browser has and nothing of Node', () => {
  const lib = ['lib.es2023.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts']
  expect(compileErrors(['src/client/index.ts'], { lib })).toEqual([])
})

test('the examples of docs/client.md compile, one after the other', async () => {
  const blocks = [...readFileSync('docs/client.md', 'utf8').matchAll(/^```ts\n([^`]*)^```$/gm)]
  expect(blocks.length).toBeGreaterThan(2)
  const folder = join('dist', `examples-${process.pid}`)
  mkdirSync(folder, { recursive: true })
  try {
    writeFileSync(join(folder, 'dualstore.ts'), await generateTypes(shippedCollections))
    writeFileSync(join(folder, 'example.ts'), blocks.map(([, code]) => code).join('\n'))
    const options = { types: ['node'], paths: { 'dualstore/client': [resolve('src/client/index.ts')] } }
    expect(compileErrors([join(folder, 'example.ts')], options)).toEqual([])
  } finally {
    rmSync(folder, { recursive: true })
  }
})
