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

test.each(['--help', 'keys create --help', '--version'])(
  '"%s" loads what prints it and little else',
  async (line) => {
    const { exitCode, stderr } = await execa('node', ['--import', TOLD, PROGRAM, ...line.split(' ')], {
      env: environment(),
      extendEnv: false,
      reject: false,
    })
    expect(exitCode).toBe(0)
    const loaded = [...stderr.matchAll(/^loaded (.*)$/gm)].map(([, file]) => file as string)
    const packages = loaded.map((file) => file.match(/.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1])
    expect(new Set(packages.filter((name) => name !== undefined))).toEqual(
      new Set(['commander', 'eventsource-parser']),
    )
    // Of the server only what the flags and their help need: no route, no store.
    const rooms = loaded.map((file) => file.match(/\/dist\/src\/server\/(\w+)\//)?.[1])
    for (const room of ['routes', 'plugins', 'store', 'db', 'mirror', 'followers', 'changes'])
      expect(rooms).not.toContain(room)
  },
)
