import { statfs } from 'node:fs/promises'
import type { Pool } from '../db/pool.js'
import { codeOf } from '../db/sqlstate.js'
import { MIRROR_FOLLOWER } from '../followers/mirror.js'
import type { Mirror } from '../mirror/contract.js'
import { shippedCollections } from '../schemas/shipped-collections.js'
import { readStandings } from '../store/standings.js'
import { duration, type Finding, ok, problem, size, warning } from './doctor/finding.js'
import { examinePostgres } from './doctor/postgres.js'
import { type ExaminedSettings, examineSettings } from './doctor/settings.js'

export type { Finding } from './doctor/finding.js'

export interface DoctorOptions {
  settings: ExaminedSettings & { dataDir: string; databasePoolSize: number }
  /** Or why it cannot be opened. */
  pool: Pool | Error
  mirror: Mirror | undefined
  now?: () => number
}

const SKEW_MS = 2000
const LEAST_FREE = 0.1

/** Looks at both stores, the followers and the settings, and says what is wrong and what mends it. Changes nothing. */
export async function examine({ settings, pool, mirror, now = Date.now }: DoctorOptions): Promise<Finding[]> {
  const findings = examineSettings(settings)
  const unreachable = (error: unknown) => [
    problem('postgres', messageOf(error), 'start it, or correct DATABASE_URL'),
  ]
  const reading =
    pool instanceof Error ? Promise.reject(pool) : examinePostgres(pool, settings.databasePoolSize)
  findings.push(...(await reading.catch(unreachable)))
  if (mirror !== undefined) findings.push(...(await examineMirror(mirror, pool, now)))
  const embedded = settings.databaseUrl === undefined || settings.mongodbUri === undefined
  if (embedded) findings.push(await examineDisk(settings.dataDir))
  return findings
}

async function examineMirror(mirror: Mirror, pool: Pool | Error, now: () => number): Promise<Finding[]> {
  const check = `mirror (${mirror.kind})`
  try {
    const asked = now()
    const { clock, missingIndexes } = await mirror.examine(shippedCollections)
    // Half of the time that the question took is the best guess for when the answer was made.
    const skew = Math.abs(clock - (asked + now()) / 2)
    const findings: Finding[] = []
    if (skew > SKEW_MS) {
      findings.push(
        warning('clocks', `the mirror's differs by ${duration(skew)} from this one`, 'run NTP on both'),
      )
    }
    if (missingIndexes.length > 0) {
      const what = `indexes are missing: ${missingIndexes.slice(0, 5).join(', ')}`
      findings.push(warning(check, what, 'dualstore serve makes them with the next write of the collection'))
    }
    return findings.length > 0 ? findings : [ok(check, 'answers, and has its indexes')]
  } catch (error) {
    // Only one process can open it, and the one that does is well when it leads.
    if (mirror.kind === 'embedded' && (await isLed(pool))) return [ok(check, 'in use by a server')]
    return [problem(check, messageOf(error), 'start it, or correct MONGODB_URI')]
  }
}

async function isLed(pool: Pool | Error): Promise<boolean> {
  if (pool instanceof Error) return false
  const followers = await readStandings(pool).catch(() => [])
  return followers.some(({ id, led }) => id === MIRROR_FOLLOWER && led)
}

async function examineDisk(directory: string): Promise<Finding> {
  const { bavail, blocks, bsize } = await statfs(directory)
  const free = `${size(bavail * bsize)} free in ${directory}`
  return bavail < blocks * LEAST_FREE
    ? warning('disk', free, 'make room, or use stores elsewhere')
    : ok('disk', free)
}

/** With the code of the cause, which says more than our own words. */
function messageOf(error: unknown): string {
  const code = codeOf(error)
  const { message } = error as Error
  return code === undefined || message.includes(code) ? message : `${message} (${code})`
}
