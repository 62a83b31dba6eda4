import { execa } from 'execa'
import { expect, test } from 'vitest'
import { environment, PROGRAM } from './program.js'

/** Prints every module that is loaded: modules of ECMAScript as they come, those of CommonJS at the end. */
const hook = `export async function load(url, context, next) { process._rawDebug('loaded ' + url); return next(url, context) }`
const dataUrl = (code: string) => `data:text/javascript,${encodeURIComponent(code)}`
const TOLD = dataUrl(`
  import { createRequire, register } from 'node:module'
  register(${JSON.stringify(dataUrl(hook))})
  const { cache } = createRequire('/')
  process.on('exit', () => { for (const file in cache) process._rawDebug('loaded ' + file) })`)

test.each([
  { line: '--help', packages: ['commander'], commands: [] },
  { line: '--version', packages: ['commander'], commands: [] },
  { line: 'keys create --help', packages: ['commander', 'eventsource-parser'], commands: ['keys'] },
])('"$line" loads what prints it and little else', async ({ line, packages: needed, commands }) => {
  const { exitCode, stderr } = await execa('node', ['--import', TOLD, PROGRAM, ...line.split(' ')], {
    env: environment(),
    extendEnv: false,
    reject: false,
  })
  expect(exitCode).toBe(0)
  const loaded = [...stderr.matchAll(/^loaded (.*)$/gm)].map(([, file]) => file as string)
  const packages = loaded.map((file) => file.match(/.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1])
  expect(new Set(packages.filter((name) => name !== undefined))).toEqual(new Set(needed))
  const named = loaded.map((file) => file.match(/\/cli\/commands\/(\w+)/)?.[1])
  expect(new Set(named.filter((name) => name !== undefined))).toEqual(new Set(commands))
  // Of the server only what the flags and their help need: no route, no store.
  const rooms = loaded.map((file) => file.match(/\/dist\/src\/server\/(\w+)\//)?.[1])
  for (const room of ['routes', 'plugins', 'store', 'db', 'mirror', 'followers', 'changes'])
    expect(rooms).not.toContain(room)
})
