import type { Pool } from '../../db/pool.js'
import { DualstoreError } from '../../errors.js'
import type { Mirror } from '../../mirror/contract.js'
import type { CollectionDefinition } from '../../schemas/collection.js'
import { existingAmong, readChunk, skipChunk } from '../../store/chunks.js'
import { estimateCounts, readCollections } from '../../store/collections.js'
import type { JobRun } from '../jobs/run.js'
import type { Registry } from '../registry.js'
import { chunkAgrees, suspects } from './chunk.js'
import { addFinding, type Counts, type Finding, noCounts } from './findings.js'
import { createPace } from './pace.js'
import type { Settle } from './settle.js'

/** What an audit is asked for. */
export interface AuditOptions {
  /** Names; undefined for every collection. */
  collections?: string[] | undefined
  /** Share of the key ranges that is looked at, above 0 up to 1. */
  sample?: number | undefined
  /** Documents a second at most. */
  rate?: number | undefined
}

/** How far an audit has come: where to go on from, and what was counted until there. */
export interface AuditProgress {
  /** In this order. */
  names: string[]
  /** The one under way. */
  collection: string
  /** Documents up to this id are done; null when all are and foreign documents are being looked for. */
  after: string | null
  counts: Record<string, Counts>
  /** PostgreSQL's estimate of the documents in all of them. */
  estimate: number
  not_checked: string[]
  /** Findings that are kept; the counts go on behind the bound. */
  listed: number
}

export interface WalkOptions {
  pool: Pool
  registry: Registry
  mirror: Mirror
  settle: Settle
  /** What is done about the findings of a batch; the answer is what is kept of them. */
  act(definition: CollectionDefinition, findings: Finding[], signal: AbortSignal): Promise<Finding[]>
  random?: () => number
  /** Documents of a chunk, 1000 by default. */
  chunkSize?: number | undefined
}

const CHUNK = 1000
/** At least so many chunks a second, so that a slow audit is seen to get on. */
const CHUNKS_A_SECOND = 2
const SAVE_MS = 500
const FOREIGN_AT_ONCE = 500
/** Foreign documents of a collection that are listed; all are counted. */
const FOREIGN_LISTED = 1000
const FINDINGS_LISTED = 100_000

/**
 * Compares every collection with the mirror, key range by key range, in constant memory: PostgreSQL gives the hash of
 * a range, the mirror's documents of the same range are hashed alike, and only a range whose hashes differ is read on
 * both sides. Goes on from the stored progress, which is stored together with what was found until there.
 */
export async function walk(
  options: WalkOptions,
  run: JobRun<AuditOptions, AuditProgress>,
): Promise<AuditProgress> {
  const progress = run.progress ?? (await begin(options, run.options))
  const pace = createPace(run.options.rate, run.signal)
  let saved = Date.now()
  let pending: Finding[] = []

  const keep = async (counts: Counts, findings: readonly Finding[]) => {
    for (const finding of findings) {
      addFinding(counts, finding)
      if (progress.listed >= FINDINGS_LISTED) continue
      if (finding.kind === 'foreign' && counts.foreign > FOREIGN_LISTED) continue
      pending.push(finding)
      progress.listed++
    }
  }
  const save = async (force = false) => {
    if (!force && pending.length < FOREIGN_AT_ONCE && Date.now() - saved < SAVE_MS) return
    await run.save(progress, pending)
    pending = []
    saved = Date.now()
  }

  await save(true)
  for (const name of progress.names.slice(progress.names.indexOf(progress.collection))) {
    if (progress.collection !== name) {
      progress.collection = name
      progress.after = ''
    }
    progress.counts[name] ??= noCounts()
    const counts = progress.counts[name]
    const definition = await stillThere(options.registry, name)
    if (definition === undefined) {
      progress.not_checked.push(`${name}: it was dropped meanwhile`)
      continue
    }
    while (progress.after !== null) {
      progress.after = await oneChunk(definition, progress.after, counts)
      await save()
    }
    if (run.options.sample === undefined) {
      counts.foreign = 0
      await foreign(definition, counts)
    }
    await save()
  }
  await save(true)
  return progress

  /** Compares the chunk behind an id; the id it ends with, or null behind the last one. */
  async function oneChunk(
    definition: CollectionDefinition,
    after: string,
    counts: Counts,
  ): Promise<string | null> {
    const { pool, mirror } = options
    const { name } = definition
    const { sample, rate } = run.options
    const limit = Math.max(
      1,
      Math.min(options.chunkSize ?? CHUNK, Math.ceil((rate ?? Infinity) / CHUNKS_A_SECOND)),
    )
    if (sample !== undefined && (options.random ?? Math.random)() >= sample) {
      const skipped = await skipChunk(pool, name, after, limit)
      counts.skipped += skipped.documents
      return skipped.last ?? null
    }
    const chunk = await readChunk(pool, name, after, limit)
    // The last one goes on to where only the mirror may have something. It is the last once and for all: were what has
    // been added meanwhile another chunk, a collection that grows at its end would never be done.
    const range = { after: after === '' ? undefined : after, upTo: chunk.isLast ? undefined : chunk.last }
    counts.chunks++
    if (await chunkAgrees(mirror, definition, range, chunk)) {
      counts.documents += chunk.documents
    } else {
      counts.differing_chunks++
      for await (const { ids, last, documents } of suspects(pool, mirror, definition, range, chunk)) {
        if (ids.length > 0) {
          const findings = await options.settle(definition, ids, run.signal)
          await keep(counts, await options.act(definition, findings, run.signal))
        }
        counts.documents += documents
        // Together with the counts: a range without end can be long, and is not begun again from its beginning.
        progress.after = last
        await save(ids.length > 0)
      }
    }
    await pace(chunk.documents)
    return chunk.isLast ? null : (chunk.last ?? null)
  }

  async function foreign(definition: CollectionDefinition, counts: Counts): Promise<void> {
    let batch: { id: string | undefined; line: string }[] = []
    const flush = async () => {
      const ids = batch.flatMap(({ id }) => (id === undefined || id.includes('\0') ? [] : [id]))
      // Under an id of ours it is a document that is different, not a foreign one.
      const taken = await existingAmong(options.pool, definition.name, ids)
      const findings = batch
        .filter(({ id }) => id === undefined || !taken.has(id))
        .map(({ id, line }): Finding => {
          return {
            kind: 'foreign',
            collection: definition.name,
            id: id === undefined || id.includes('\0') ? labelOf(line) : id,
          }
        })
      await keep(counts, findings)
      await save()
      run.signal.throwIfAborted()
      batch = []
    }
    for await (const document of options.mirror.foreign(definition, 'ids')) {
      if (batch.push(document) >= FOREIGN_AT_ONCE) await flush()
    }
    if (batch.length > 0) await flush()
  }
}

async function begin(
  { pool, registry }: WalkOptions,
  { collections, sample }: AuditOptions,
): Promise<AuditProgress> {
  await registry.refresh()
  const all = registry.all().map(({ definition }) => definition.name)
  const names = collections ?? all
  const estimates = await estimateCounts(pool)
  const not_checked = (await readCollections(pool))
    .filter(({ state }) => state !== 'active' && collections === undefined)
    .map(({ definition, state }) => `${definition.name}: it is ${state}`)
  const left = all.filter((name) => !names.includes(name))
  if (left.length > 0) not_checked.push(`${left.join(', ')}: not asked for`)
  if (sample !== undefined) {
    not_checked.push(`foreign documents, and the key ranges outside a sample of ${sample}`)
  }
  const estimate = names.reduce((sum, name) => sum + (estimates.get(name) ?? 0), 0)
  return { names, collection: names[0] ?? '', after: '', counts: {}, estimate, not_checked, listed: 0 }
}

async function stillThere(registry: Registry, name: string): Promise<CollectionDefinition | undefined> {
  try {
    return (await registry.get(name)).definition
  } catch (error) {
    if (error instanceof DualstoreError && error.code === 'COLLECTION_NOT_FOUND') return undefined
    throw error
  }
}

/** An `_id` that is no text, as extended JSON: `{"$oid":"…"}`. */
function labelOf(line: string): string {
  return JSON.stringify((JSON.parse(line) as { _id: unknown })._id)
}
