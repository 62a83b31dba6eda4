import { isDeepStrictEqual } from 'node:util'
import { createPace } from '../../server/services/audit/pace.js'
import type { Comparison, MigrationService, SourceFinding } from '../../server/services/migrations.js'
import { readAhead } from '../read-ahead.js'
import { byName, type Source, type SourceDocument } from '../sources/contract.js'
import { exactText, understand } from '../understand.js'
import type { CaughtUp } from './caught-up.js'
import { noVerifyCounts, type VerifyCounts } from './counts.js'

export interface VerifyingOptions {
  source: Source
  migrations: MigrationService
  comparison: Comparison
  /** Undefined when nobody follows the source: what differs is a difference at once. */
  caughtUp: CaughtUp | undefined
  /** Documents a second at most. */
  rate: number | undefined
  signal: AbortSignal
  /** Told how many documents were read. */
  onRead(documents: number): void
  /** Told of each document that is not on both sides as it must be. */
  onFinding(finding: SourceFinding): Promise<void>
}

/** How often what differs is looked at, while somebody follows the source. */
const LOOKS = 3
/** Documents that are kept to be looked at again; what more differs is a difference at once. */
const MOST_HELD = 1000
const POLL_MS = 200
/** How long what is written meanwhile is read at a time, unless nothing is waiting before. */
const TAIL_MS = 2000

/**
 * Compares one collection on both sides. While somebody follows the source, what is written to it meanwhile is read,
 * too, and what differs is looked at again when the follower has caught up.
 */
export async function verifyCollection(options: VerifyingOptions, collection: string): Promise<VerifyCounts> {
  const { source, comparison, caughtUp, signal, onRead, onFinding } = options
  const counts = noVerifyCounts()
  const look = await createLook(options, collection)
  const pace = createPace(options.rate, signal)
  const tell = async (finding: SourceFinding) => {
    counts[finding.kind]++
    if (finding.source_id !== null) counts.checked++
    await onFinding(finding)
  }
  const count = ({ equal, superseded, quarantined }: Awaited<ReturnType<typeof look>>) => {
    counts.equal += equal
    counts.superseded += superseded
    counts.quarantined += quarantined
    counts.checked += equal + superseded + quarantined
  }

  await comparison.begin()
  // From before the first document is read, so that nothing is missed.
  const tail = caughtUp && createTail(options, collection, await source.mark(collection))
  const held = new Map<string, SourceDocument>()
  for await (const batch of readAhead(source.read(collection, null, signal))) {
    signal.throwIfAborted()
    const documents = [...batch.documents]
    const compared = await look(documents)
    count(compared)
    const named = compared.found.length === 0 ? undefined : byName(documents)
    for (const finding of compared.found) {
      const document = named?.get(finding.source_id ?? '')
      if (tail === undefined || document === undefined || held.size === MOST_HELD) await tell(finding)
      else held.set(document.sourceId, document)
    }
    onRead(documents.length)
    await pace(documents.length)
  }
  signal.throwIfAborted()

  /** Reads what was written meanwhile. @returns the names of those that differ and have changed since they were read. */
  const catchUp = async (): Promise<Set<string>> => {
    const written = new Set<string>()
    for await (const documents of tail?.() ?? []) {
      const fresh = documents.filter(({ sourceId }) => !held.has(sourceId))
      // Those that are alike were counted, unless they were added behind the place that was read.
      const unlike = new Set((await look(fresh)).found.map(({ source_id }) => source_id))
      for (const document of documents) {
        const before = held.get(document.sourceId)
        if (before === undefined && !unlike.has(document.sourceId)) continue
        held.set(document.sourceId, document)
        // A source that is looked at again and again gives what it gave before.
        if (!isDeepStrictEqual(before, document)) written.add(document.sourceId)
      }
    }
    return written
  }

  let found: SourceFinding[] = []
  let settled = true
  for (let looks = 1; tail !== undefined && caughtUp !== undefined && looks <= LOOKS; looks++) {
    await catchUp()
    if (held.size === 0) break
    settled = await caughtUp()
    const compared = await look([...held.values()])
    count(compared)
    found = compared.found
    const still = new Set(found.map(({ source_id }) => source_id))
    for (const name of held.keys()) if (!still.has(name)) held.delete(name)
    if (!settled) break
  }
  const moving = found.length > 0 ? await catchUp() : new Set()
  for (const finding of found) {
    if (settled && !moving.has(finding.source_id)) await tell(finding)
    else await tell(unsettled(finding, settled))
  }

  // What the migration took in meanwhile stands in the source behind what was read, unless it was deleted there again.
  for (let looks = 1; ; looks++) {
    const upTo = await comparison.position()
    await catchUp()
    const arrived = await comparison.findExtras(collection, upTo)
    if (arrived === 0 || caughtUp === undefined || looks === LOOKS) break
    await caughtUp()
  }
  for await (const page of comparison.extras()) {
    for (const { id, kind } of page) {
      if (kind === 'own') counts.own++
      else await tell(extra(collection, id, kind === 'arrived' && tail !== undefined))
    }
  }
  return counts
}

/** Understands documents and compares them with what is stored. */
async function createLook({ migrations, comparison }: VerifyingOptions, collection: string) {
  const definition = await migrations.definition(collection)
  return (documents: readonly SourceDocument[]) => {
    const understood = documents.map((document) => understand(definition, document))
    const intake = migrations.prepare({ collection, documents: understood, checkpoint: '' })
    return comparison.look(intake, (place) => {
      const name = intake.sourceIds[place]
      return exactText(documents.find(({ sourceId }) => sourceId === name)?.document ?? {})
    })
  }
}

/** Reads what is written to a collection from a place on: each call until nothing is waiting, or all from before it. */
function createTail({ source, signal }: VerifyingOptions, collection: string, mark: string) {
  let checkpoint = mark
  return async function* tail(): AsyncGenerator<readonly SourceDocument[]> {
    const began = performance.now()
    const enough = new AbortController()
    const batches = source.follow({
      collections: [collection],
      checkpoints: new Map([[collection, checkpoint]]),
      pollMs: POLL_MS,
      signal: AbortSignal.any([signal, enough.signal]),
    })
    try {
      for await (const batch of batches) {
        const advanced = batch.checkpoint !== checkpoint
        checkpoint = batch.checkpoint
        if (batch.documents.length > 0) yield [...batch.documents]
        if (batch.behind > 0) continue
        // A source that is written all the time always has more: what was there when this call began is enough.
        if (batch.documents.length === 0 || (advanced && performance.now() - began > TAIL_MS)) return
      }
      signal.throwIfAborted()
    } finally {
      enough.abort()
    }
  }
}

function unsettled(finding: SourceFinding, settled: boolean): SourceFinding {
  const why = settled ? 'it was written again and again' : 'whoever follows the source has not caught up'
  return { ...finding, kind: 'unsettled', reason: `${finding.reason}; ${why}` }
}

function extra(collection: string, id: string, arrived: boolean): SourceFinding {
  const kind = arrived ? 'unsettled' : 'extra'
  const reason = arrived
    ? 'was taken in while the source was read, and the source has not told of it since'
    : 'the source does not hold it, and no client is known to have written it since the migration began'
  return { kind, collection, id, source_id: null, reason }
}
