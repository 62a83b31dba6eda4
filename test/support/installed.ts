import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/**
 * Makes a folder on first use. Of two processes that make it at once the first to finish wins; the folder is never
 * seen half made.
 */
export async function installed(home: string, make: (draft: string) => Promise<void>): Promise<void> {
  if (existsSync(home)) return
  await mkdir(dirname(home), { recursive: true })
  const draft = await mkdtemp(join(dirname(home), `${basename(home)}.draft-`))
  try {
    await make(draft)
    await rename(draft, home).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
    })
  } finally {
    await rm(draft, { recursive: true, force: true })
  }
}

/**
 * True when what some tests need can be had; otherwise says loudly that they are skipped, and fails when CI=true.
 * @param hint What is missing, and how to get it.
 */
export async function available(hint: string, find: () => Promise<unknown>): Promise<boolean> {
  try {
    await find()
    return true
  } catch (cause) {
    const why = cause instanceof Error ? cause.message.split('\n')[0] : String(cause)
    const message = `${hint} (${why})`
    if (process.env.CI === 'true') throw new Error(message, { cause })
    console.warn(`\n*** ${message} ***\n`)
    return false
  }
}
