import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { expect, test } from 'vitest'
import { commands as all } from '../../src/cli/commands.js'
import { buildProgram } from '../../src/cli/main.js'
import { flagOf, type SettingKey, settings } from '../../src/server/config/settings.js'
import { dualstore, dualstoreAlone } from './program.js'

const guide = readFileSync('docs/cli.md', 'utf8')
const settingFlags = (Object.keys(settings) as SettingKey[]).map(flagOf)

/** Every command with the words that lead to it. */
function walk(command: Command, path: readonly string[] = []): { words: string[]; command: Command }[] {
  const here = { words: [...path], command }
  return [here, ...command.commands.flatMap((child) => walk(child, [...path, child.name()]))]
}
const program = await buildProgram(all.map(({ name }) => name))
const commands = walk(program)

test('the list of commands is the same whether or not they are loaded', async () => {
  const unloaded = await buildProgram([])
  expect(unloaded.helpInformation()).toBe(program.helpInformation())
})

test.each(commands.map(({ words }) => words.join(' ')))('"%s --help" shows an example', async (path) => {
  const words = path.split(' ').filter(Boolean)
  const { code, stdout, stderr } = await dualstore([...words, '--help'])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(stdout).toContain(`Usage: ${['dualstore', ...words].join(' ')}`)
  expect(stdout).toMatch(new RegExp(`Examples:\\n(.|\\n)*dualstore ${path}`))
})

test('docs/cli.md names every command, argument and flag', () => {
  for (const { words, command } of commands.slice(1)) {
    const heading = `\`dualstore ${words.join(' ')}`
    expect(guide).toContain(heading)
    const section = guide.slice(guide.indexOf(`### ${heading}`)).split('\n### ')[0] ?? ''
    if (command.commands.length > 0) continue
    expect(guide, words.join(' ')).toContain(`### ${heading}`)
    for (const argument of command.registeredArguments) expect(section).toContain(argument.name())
    for (const { long } of command.options) {
      if (long === undefined || long === null || settingFlags.includes(long)) continue
      // What connects to a server and what every command has stands once for all of them.
      expect(`${section}\n${guide.split('\n## Commands')[0]}`, `${words.join(' ')} ${long}`).toContain(
        `\`${long}`,
      )
    }
  }
})

test('docs/cli.md names no flag that is not there', () => {
  const known = new Set([
    ...commands.flatMap(({ command }) => command.options.map((option) => option.long)),
    ...settingFlags,
    '--help',
  ])
  const named = [...guide.matchAll(/`(--[a-z-]+)/g)].map(([, flag]) => flag as string)
  expect(named.filter((flag) => !known.has(flag))).toEqual([])
})

test('serve and config have a flag for every setting', () => {
  for (const name of ['serve', 'config']) {
    const command = commands.find(({ words }) => words.join(' ') === name)?.command
    const flags = command?.options.map((option) => option.long)
    expect(flags).toEqual(expect.arrayContaining([...settingFlags, '--config']))
  }
})

test('--version prints the version of the package', async () => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
  expect(await dualstoreAlone(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' })
})
