import { setImmediate as nextTurn } from 'node:timers/promises'
import type { CollectionDefinition } from '../server/schemas/collection.js'
import type { Pace } from '../server/services/audit/pace.js'
import type { Intake, MigrationService, StoredProgress } from '../server/services/migrations.js'
import { readAhead } from './read-ahead.js'
import {
  byName,
  type Source,
  type SourceDocument,
  type SourceDocuments,
  type Understood,
} from './sources/contract.js'
import { exactText } from './understand/json.js'
import { understand } from './understand.js'

/** What taking documents in needs. */
export interface Intaking {
  source: Source
  migrations: MigrationService
  /** Of the migration, and whoever runs it. */
  id: string
  runner: string
  pace: Pace
  signal: AbortSignal
  /** Told after each batch how many documents were taken in. */
  onTaken(collection: string, documents: number): void
}

/**
 * Takes all documents of a collection in, from where the stored progress ends. The next batch is read and understood
 * while PostgreSQL works on the last; no more than these are in memory.
 */
export async function backfill(
  intaking: Intaking,
  { collection, checkpoint }: StoredProgress,
): Promise<void> {
  const { source, migrations, id, runner, pace, signal, onTaken } = intaking
  const definition = await migrations.definition(collection)
  let writing = Promise.resolve()
  try {
    for await (const batch of readAhead(source.read(collection, checkpoint, signal))) {
      const { documents, checkpoint } = batch
      const intake = migrations.prepare({
        collection,
        documents: understood(definition, documents),
        checkpoint,
      })
      await writing
      signal.throwIfAborted()
      writing = take(intaking, intake, documents).then(() => onTaken(collection, documents.length))
      writing.catch(() => {})
      await pace(documents.length)
      // Lets the statement go out; else it would wait until the next batch is understood.
      await nextTurn()
    }
  } finally {
    // Whatever ends this, nothing is under way any more then.
    await writing
  }
  signal.throwIfAborted()
  await migrations.endCollection({ id, runner }, collection)
}

/** What documents mean, one after the other: what one was decoded and understood into is gone before the next. */
export function* understood(
  definition: CollectionDefinition,
  documents: SourceDocuments,
): Generator<Understood> {
  for (const document of documents) yield understand(definition, document)
}

/** Takes a batch in that was prepared; what PostgreSQL refuses is kept as it stands in the source. */
export async function take(
  { migrations, id, runner }: Intaking,
  intake: Intake,
  documents: SourceDocuments,
): Promise<void> {
  let named: ReadonlyMap<string, SourceDocument> | undefined
  await migrations.takeIn({ id, runner }, intake, (place) => {
    named ??= byName(documents)
    return exactText(named.get(intake.sourceIds[place] ?? '')?.document ?? {})
  })
}
