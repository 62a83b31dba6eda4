import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { atEndOfFile } from './leaks.js'

/** A data directory of its own, removed at the end of the file. */
export async function dataDirectory(): Promise<string> {
  const parent = await mkdtemp(join(tmpdir(), 'dualstore-e2e-'))
  atEndOfFile(() => rm(parent, { recursive: true, force: true }))
  // As root, PostgreSQL runs as a user of its own, who must be able to enter it.
  await chmod(parent, 0o755)
  return join(parent, 'data')
}
