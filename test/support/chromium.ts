import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { execa } from 'execa'
import { type Browser, chromium } from 'playwright-core'
import { available, installed } from './installed.js'

const SYSTEM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
const PACKAGE = '@sparticuz/chromium'
const CACHE = resolve('.cache/chromium')
const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

interface Executable {
  path: string
  /** Where the libraries lie that came with it. */
  libraries?: string
}

/** A Chromium of this machine (CHROMIUM_PATH, or where systems install one), or else the one in the npm package. */
export async function launchChromium(): Promise<Browser> {
  const { path, libraries } = await executable()
  return chromium.launch({
    executablePath: path,
    args: ARGUMENTS,
    ...(libraries !== undefined && { env: { ...process.env, LD_LIBRARY_PATH: libraries } }),
  })
}

/** True when there is a browser to test with; says so loudly when there is none, and fails when CI=true. */
export async function chromiumIsAvailable(): Promise<boolean> {
  return available('NO CHROMIUM FOR TESTS: they are skipped. Set CHROMIUM_PATH or install one', executable)
}

async function executable(): Promise<Executable> {
  const given = process.env.CHROMIUM_PATH
  if (given !== undefined && !existsSync(given))
    throw new Error(`CHROMIUM_PATH is ${given}, which does not exist`)
  const path = given ?? SYSTEM.find((candidate) => existsSync(candidate))
  return path === undefined ? unpacked() : { path }
}

/**
 * Unpacks the npm package's headless Chromium, with the libraries that a bare machine lacks, once for each version.
 * The package unpacks into TMPDIR, and its libraries only where it believes to be in a cloud function: a process of
 * its own keeps both from this one.
 */
async function unpacked(): Promise<Executable> {
  const entry = createRequire(import.meta.url).resolve(PACKAGE)
  const manifest = join(entry, '../../../package.json')
  const { version } = JSON.parse(await readFile(manifest, 'utf8')) as { version: string }
  const folder = join(CACHE, version)
  await installed(folder, async (draft) => {
    const script = `import chromium from '${PACKAGE}'; await chromium.executablePath()`
    await execa('node', ['--input-type=module', '--eval', script], {
      env: { TMPDIR: draft, AWS_LAMBDA_JS_RUNTIME: 'nodejs20.x' },
    })
  })
  return { path: join(folder, 'chromium'), libraries: join(folder, 'al2023', 'lib') }
}
