import type { Counts, Intake, MigrationService } from '../server/services/migrations.js'
import { readAhead } from './read-ahead.js'
import { countsOf, noCounts, sumOf } from './report.js'
import { askedFor, presentIn } from './run.js'
import { createSeen } from './seen.js'
import type { Oddity, Source, Understood } from './sources/contract.js'
import { understand } from './understand.js'

export interface PlanOptions {
  source: Source
  migrations: MigrationService
  /** Collections to look at; undefined: all that are there. */
  collections?: readonly string[] | undefined
  /** Read so many documents of each collection and no more. */
  sample?: number | undefined
  /** Documents a second at which it will run at most. */
  rate?: number | undefined
  signal: AbortSignal
  onProgress?: (read: number, documents: number) => void
}

/** How often something was met, with the places of the first few. */
export interface Examples {
  documents: number
  /** Names of documents in the source. */
  examples: string[]
}

/** What a migration would do. Counts are of what was read. */
export interface Plan extends Counts {
  /** In the source, as it tells. */
  documents: number
  /** False when only a sample was read, or it was interrupted. */
  complete: boolean
  source: { kind: 'mongo' | 'http'; name: string }
  collections: Record<string, Counts & { documents: number }>
  oddities: Record<string, Examples>
  /** Why documents would go into quarantine. */
  quarantine: (Examples & { collection: string; reason: string })[]
  /** What the source cannot give. */
  losses: readonly string[]
  /** What of the documents will not be as it was, in sentences. */
  differences: string[]
  seconds: number
  /** Documents read and understood a second. */
  rate: number
  estimated_seconds: number
}

const EXAMPLES = 3
const MOST_REASONS = 50
/** Documents a second that PostgreSQL takes on two ordinary cores: reading may be faster than that. */
const WRITING_RATE = 25_000

const CHANGES: Readonly<Partial<Record<Oddity, string>>> = {
  missing_id: 'have no id and get one that is made from their _id',
  other_id_type: 'have an id that is no text and get it as one',
  missing_text: 'have no text and get an empty one, or what stands elsewhere in them',
  default_used: 'lack a field that is required and get its default',
  value_from_text: 'get a field from their text',
  timestamp_missing: 'have no time and get that of their _id, or else of 1970',
  value_converted: 'hold values that JSON does not have, such as dates, and get them as text or numbers',
}

/**
 * Reads what a migration would read and tells what it would do with it. Writes nothing. Memory is flat: that a document
 * is another one of an id that was read before is told by a filter that may, rarely, take a new id for a known one.
 * @throws as runMigration
 */
export async function planMigration(options: PlanOptions): Promise<Plan> {
  const { source, migrations, signal, sample, onProgress = () => {} } = options
  const present = await presentIn(source, await askedFor(migrations, options.collections))
  const documents = present.reduce((sum, one) => sum + one.documents, 0)
  const began = performance.now()
  const findings = createFindings()
  const collections: Plan['collections'] = {}
  let read = 0
  let complete = true
  for (const { collection, documents: inSource } of present) {
    const definition = await migrations.definition(collection)
    const seen = createSeen()
    const counts = { ...noCounts(), documents: inSource }
    collections[collection] = counts
    try {
      for await (const batch of readAhead(source.read(collection, null, signal))) {
        const left = sample === undefined ? batch.documents.length : sample - counts.read
        const understood = [...batch.documents]
          .slice(0, left)
          .map((document) => understand(definition, document))
        for (const one of understood) findings.add(collection, one)
        await count(
          counts,
          migrations,
          migrations.prepare({ collection, documents: understood, checkpoint: '' }),
          seen,
        )
        read += understood.length
        onProgress(read, documents)
        if (left < batch.documents.length || counts.read === sample) {
          complete &&= counts.read >= inSource
          break
        }
        if (signal.aborted) break
      }
    } catch (error) {
      if (!signal.aborted) throw error
    }
    complete &&= !signal.aborted
  }
  const seconds = (performance.now() - began) / 1000
  const rate = Math.round(read / Math.max(seconds, 0.001))
  const pace = Math.max(1, Math.min(rate, WRITING_RATE, options.rate ?? Number.POSITIVE_INFINITY))
  const sum = countsOf(sumOf(Object.values(collections)))
  return {
    ...sum,
    documents,
    complete,
    source: { kind: source.kind, name: source.name },
    collections,
    ...findings.told(),
    losses: await source.losses(),
    differences: differencesOf(sum, findings.told().oddities),
    seconds: Math.round(seconds * 1000) / 1000,
    rate,
    estimated_seconds: Math.ceil(documents / pace),
  }
}

async function count(
  counts: Counts,
  migrations: MigrationService,
  intake: Intake,
  seen: ReturnType<typeof createSeen>,
): Promise<void> {
  const verdicts = await migrations.forecast(intake)
  counts.read += intake.ids.length + intake.quarantined.length
  counts.quarantined += intake.quarantined.length
  verdicts.forEach((verdict, place) => {
    const known = seen.add(intake.ids[place] ?? '')
    // The first one of an id decides what becomes of it; of the others one is the newest, and the rest is history.
    counts[known && verdict !== 'unchanged' ? 'merged' : verdict]++
  })
}

/** Oddities and reasons with their numbers and first examples. */
function createFindings() {
  const oddities: Record<string, Examples> = {}
  const reasons = new Map<string, Plan['quarantine'][number]>()
  const meet = (examples: Examples, sourceId: string) => {
    if (examples.documents++ < EXAMPLES) examples.examples.push(sourceId)
  }
  return {
    add(collection: string, document: Understood): void {
      const { sourceId } = document
      for (const kind of document.oddities) {
        oddities[kind] ??= { documents: 0, examples: [] }
        meet(oddities[kind], sourceId)
      }
      if (document.kind === 'item') return
      const given = `${collection} ${document.reason}`
      const reason = reasons.has(given) || reasons.size < MOST_REASONS ? document.reason : 'other reasons'
      const key = `${collection} ${reason}`
      const found = reasons.get(key) ?? { collection, reason, documents: 0, examples: [] }
      reasons.set(key, found)
      meet(found, sourceId)
    },
    told: () => ({
      oddities,
      quarantine: [...reasons.values()].sort((a, b) => b.documents - a.documents),
    }),
  }
}

function differencesOf(counts: Counts, oddities: Record<string, Examples>): string[] {
  const lines = Object.entries(CHANGES).flatMap(([kind, change]) => {
    const documents = oddities[kind]?.documents ?? 0
    return documents === 0 ? [] : [`${documents} ${documents === 1 ? 'document' : 'documents'}: ${change}`]
  })
  if (counts.merged > 0)
    lines.push(`${counts.merged}: give way to a newer document of their id, and are kept`)
  if (counts.replaced > 0)
    lines.push(`${counts.replaced}: take the place of an older document that is stored`)
  if (counts.quarantined > 0) lines.push(`${counts.quarantined}: cannot be understood, and are kept apart`)
  return lines
}
