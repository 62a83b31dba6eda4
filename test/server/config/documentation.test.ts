import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import * as declaration from '../../../src/server/config/index.js'

const script: string = '../../../scripts/write-configuration-docs.js'
const { render } = (await import(script)) as { render(from: typeof declaration): string }

const read = (file: string) => readFileSync(new URL(`../../../docs/${file}`, import.meta.url), 'utf8')

test('docs/configuration.md is what the declaration of the settings gives', () => {
  expect(
    read('configuration.md') === render(declaration),
    'docs/configuration.md is stale: npm run build && node scripts/write-configuration-docs.js',
  ).toBe(true)
})

test('every setting has a row with its flag, its environment names and what is allowed', () => {
  const text = read('configuration.md')
  for (const [key, setting] of Object.entries(declaration.settings)) {
    const row = text.split('\n').find((line) => line.startsWith(`| \`${key}\` |`))
    expect(row, key).toContain(`\`${declaration.flagOf(key as declaration.SettingKey)}\``)
    for (const name of setting.env) expect(row).toContain(`\`${name}\``)
    expect(row).toContain(setting.kind.allowed)
    expect(row?.includes('Without effect')).toBe(declaration.dormant.includes(key as declaration.SettingKey))
  }
})

test('no two settings share an environment name', () => {
  const names = Object.values(declaration.settings).flatMap((setting) => [...setting.env])
  expect(new Set(names).size).toBe(names.length)
})
