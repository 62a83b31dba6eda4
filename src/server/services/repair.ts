import type { Mirror, MirrorChange } from '../mirror/contract.js'
import type { CollectionDefinition } from '../schemas/collection.js'
import type { Item } from '../schemas/item.js'
import { readDocumentsAt } from '../store/chunks.js'
import { compareDocument, positionOf } from './audit/compare.js'
import type { Finding } from './audit/findings.js'
import type { AuditOptions, AuditProgress } from './audit/walk.js'
import type { JobRun } from './jobs/run.js'
import type { ParkedService } from './parked.js'
import { type AuditResult, type AuditServiceOptions, audit } from './verification.js'

export interface RepairOptions extends AuditOptions {
  /** Only with true is anything written. */
  apply?: boolean | undefined
}

export interface RepairServiceOptions extends AuditServiceOptions {
  parked: ParkedService
}

export type Repair = ReturnType<typeof createRepair>

const ATTEMPTS = 5

/** Brings what differs from PostgreSQL to the mirror, and nothing else. */
export function createRepair(options: RepairServiceOptions) {
  const { parked, mirror } = options

  const retry = async (finding: Finding): Promise<Finding> => {
    const retried = await parked.retry(finding)
    if (retried.outcome === 'applied') return { ...finding, outcome: 'repaired' }
    return { ...finding, outcome: 'failed', reason: retried.reason }
  }

  return {
    work: (run: JobRun<RepairOptions, AuditProgress>): Promise<AuditResult> =>
      audit(options, run, async (definition, findings) => {
        if (run.options.apply !== true || mirror === undefined) {
          return findings.map((finding) => ({
            ...finding,
            outcome: finding.kind === 'unsettled' ? 'left' : 'would_repair',
          }))
        }
        await mirror.prepare(definition)
        const wrong = findings.filter(({ kind }) => kind !== 'parked' && kind !== 'unsettled')
        const refused = await mend(options.pool, mirror, definition, idsOf(wrong))
        const done: Finding[] = []
        for (const finding of findings) {
          const reason = refused.get(finding.id)
          if (finding.kind === 'parked') done.push(await retry(finding))
          // Its follower brings it; there is nothing to mend yet.
          else if (finding.kind === 'unsettled') done.push({ ...finding, outcome: 'left' })
          else if (reason !== undefined) done.push({ ...finding, outcome: 'failed', reason })
          else done.push({ ...finding, outcome: 'repaired' })
        }
        return done
      }),
  }
}

const idsOf = (findings: readonly Finding[]) => findings.map(({ id }) => id)

/**
 * Makes the mirror hold these documents as PostgreSQL does; returns those it could not, with the reason.
 *
 * Safe beside the follower: a document is written as it is at a position of the log, under that position, so that a
 * change behind it wins and one before it is refused. A position in the mirror that would refuse the right document
 * is forgotten first, if it is still the one that was read. Changes that were refused because of it, and a document
 * that was deleted while it was written, are found by comparing once more afterwards, until both sides are alike.
 */
export async function mend(
  pool: AuditServiceOptions['pool'],
  mirror: Mirror,
  definition: CollectionDefinition,
  ids: readonly string[],
): Promise<Map<string, string>> {
  const failed = new Map<string, string>()
  let open = [...ids]
  for (let attempt = 0; open.length > 0; attempt++) {
    const raws = await mirror.rawMany(definition, open)
    const { position, documents } = await readDocumentsAt(pool, definition.name, open)
    open = open.filter((id) => {
      return compareDocument(definition, documents.get(id), raws.get(id), position).kind !== 'equal'
    })
    if (open.length === 0 || attempt === ATTEMPTS) break
    const changes: MirrorChange[] = []
    for (const id of open) {
      const seq = raws.has(id) ? positionOf(raws.get(id) ?? {}) : undefined
      if (seq !== undefined && !(typeof seq === 'number' && seq < position)) {
        await mirror.forgetPosition(definition, id, seq)
      }
      const stored = documents.get(id)
      const item = stored === undefined ? null : (JSON.parse(stored.text) as Item)
      changes.push({ definition, id, seq: position, version: stored?.version ?? 0, item })
    }
    for (const { change, reason } of await mirror.apply(changes)) failed.set(change.id, reason)
    open = open.filter((id) => !failed.has(id))
  }
  for (const id of open) failed.set(id, 'it changes faster than it can be repaired')
  return failed
}
