import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
const pages = [
  'README.md',
  ...readdirSync(join(root, 'docs'))
    .filter((file) => /[.](md|yml)$/.test(file))
    .map((file) => `docs/${file}`),
]
const read = (page: string) => readFileSync(join(root, page), 'utf8')

test.each(pages)('%s links only to what exists', (page) => {
  const links = [...read(page).matchAll(/\]\((?!https?:|#)([^)#]+)[^)]*\)/g)].map(
    ([, link]) => link as string,
  )
  const missing = links.filter((link) => !existsSync(join(root, dirname(page), link)))
  expect(missing).toEqual([])
})

test('every invariant names tests that exist', () => {
  const rows = read('docs/invariants.md').match(/^\| I\d+ .*$/gm) ?? []
  expect(rows.length).toBeGreaterThan(10)
  for (const row of rows) {
    const paths = [...row.matchAll(/`(test\/[^`]+)`/g)].map(([, path]) => path as string)
    expect(paths.length, row).toBeGreaterThan(0)
    for (const path of paths) expect(existsSync(join(root, path)), path).toBe(true)
  }
})

test('every npm script that a page names exists', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
  for (const page of pages) {
    for (const [, name] of read(page).matchAll(/npm run ([\w:]+)/g))
      expect(scripts, page).toHaveProperty([name as string])
  }
})
