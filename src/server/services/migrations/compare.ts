import { parsePosition } from '../../changes/position.js'
import { readHead } from '../../changes/read.js'
import { type Pool, type Queryable, withConnection } from '../../db/pool.js'
import { storeError } from '../../db/sqlstate.js'
import { differencesOf } from '../../mirror/difference.js'
import type { StoredMigration } from '../../store/migrations.js'
import {
  addSeen,
  addTouched,
  closeComparison,
  explainUnlike,
  findExtras,
  forgetSeen,
  openComparison,
  readExtras,
  readQuarantined,
  readUnlike,
  type UnlikeRow,
} from '../../store/migrations-compare.js'
import type { Intake } from '../../store/migrations-intake.js'
import { pickOf } from './intake.js'
import { partsOf } from './taking.js'

/** A document that is not on both sides as it must be. */
export interface SourceFinding {
  kind: 'missing' | 'different' | 'extra' | 'unsettled'
  collection: string
  /** Null for a document whose id cannot be understood. */
  id: string | null
  /** What names it in the source; null when the source does not hold it. */
  source_id: string | null
  reason: string
  /** The first twenty places, as short texts; without the value where there is none. */
  differences?: { path: string; source?: string; stored?: string }[]
}

/** What was found of some documents of the source. */
export interface Compared {
  equal: number
  superseded: number
  quarantined: number
  /** One for each of the others. */
  found: SourceFinding[]
}

/** A stored document that the source does not hold. */
export type Extra = { kind: 'own' | 'extra' | 'arrived'; id: string }

export type Comparison = Awaited<ReturnType<typeof createComparison>>

const PAGE = 1000
/** How often it is looked whether a client has written meanwhile. */
const LOOKS = 3

/**
 * Lets `work` compare the source of a migration with what PostgreSQL holds. What the source holds is remembered in
 * PostgreSQL, in tables of one session; memory here is flat. Nothing is changed.
 */
export async function compare<T>(
  pool: Pool,
  migration: StoredMigration,
  work: (comparison: Comparison) => Promise<T>,
): Promise<T> {
  return withConnection(
    pool,
    async ({ client, discard }) => {
      try {
        await openComparison(client)
        const result = await work(await createComparison(client, migration))
        await closeComparison(client)
        return result
      } catch (error) {
        // What is under way in it, and its tables, end with the session.
        discard(error as Error)
        throw storeError(error)
      }
    },
    { patient: true },
  )
}

async function createComparison(session: Queryable, { id: migration, started_position }: StoredMigration) {
  const started = parsePosition(started_position)?.seq ?? 0
  const { floor, position: began } = await readHead(session)
  let looked = started
  /** Looks for what clients have written since the last look. @returns how many documents they are. */
  const touched = async (): Promise<number> => {
    const { position } = await readHead(session)
    const added = await addTouched(session, looked)
    looked = position
    return added
  }
  await touched()

  const explained = async (unlike: Intake): Promise<UnlikeRow[]> => {
    for (let look = 1; ; look++) {
      const rows = await explainUnlike(session, migration, unlike)
      const found = rows.some(({ standing }) => standing === 'missing' || standing === 'different')
      if (!found || look === LOOKS || (await touched()) === 0) return rows
    }
  }

  return {
    /** False when the log no longer holds all that clients have written since the migration began. */
    knowsClients: floor <= started,

    /** Begins with a collection: nothing of it was seen yet. */
    begin: () => forgetSeen(session),

    /**
     * Compares documents of the source, and remembers that it holds them.
     * @param originalOf The whole document at a place of the intake, as canonical extended JSON.
     */
    async look(intake: Intake, originalOf: (place: number) => string): Promise<Compared> {
      const compared: Compared = { equal: intake.ids.length, superseded: 0, quarantined: 0, found: [] }
      const refusedIds = intake.quarantined.flatMap(({ id }) => (id === null ? [] : [id]))
      await addSeen(session, [...intake.ids, ...refusedIds])
      let from = 0
      for (const part of partsOf(intake)) {
        const places = await readUnlike(session, part)
        const rows = places.length === 0 ? [] : await explained(pickOf(part, places))
        rows.forEach((row, index) => {
          judge(compared, intake.collection, row, () => originalOf(from + (places[index] ?? 0)))
        })
        from += part.ids.length
      }
      if (intake.quarantined.length === 0) return compared
      const kept = await readQuarantined(session, migration, intake)
      for (const { source_id, id, reason } of intake.quarantined) {
        if (kept.has(source_id)) compared.quarantined++
        else
          compared.found.push({
            kind: 'missing',
            collection: intake.collection,
            id,
            source_id,
            reason: `cannot be taken (${reason}), and does not stand in the quarantine as it is`,
          })
      }
      return compared
    },

    /** Where the log ends now. */
    position: async () => (await readHead(session)).position,

    /**
     * Finds the stored documents that the source does not hold, of all that were looked at since `begin`.
     * @param upTo A position from before the source was last read: what the migration has added since is left out.
     * @returns how many of them the migration has taken in since the comparison began: the source may have held them
     * behind what was read of it.
     */
    async findExtras(collection: string, upTo: number): Promise<number> {
      await touched()
      return findExtras(session, collection, { began, upTo })
    },

    /** What findExtras found, by id. */
    async *extras(): AsyncGenerator<Extra[]> {
      for (let after = ''; ; ) {
        const page = await readExtras(session, after, PAGE)
        const last = page.at(-1)
        if (last === undefined) return
        yield page.map(({ id, own, arrived }) => ({ id, kind: own ? 'own' : arrived ? 'arrived' : 'extra' }))
        after = last.id
      }
    },
  }
}

/** Counts a document that is not stored as it is in the source, or says what is wrong with it. */
function judge(compared: Compared, collection: string, row: UnlikeRow, original: () => string): void {
  const { standing, id, source_id } = row
  if (standing === 'equal') return
  compared.equal--
  if (standing === 'superseded') compared.superseded++
  else if (standing === 'quarantined' && row.quarantined === original()) compared.quarantined++
  else {
    const kind = standing === 'quarantined' ? 'missing' : standing
    const about = kind === 'missing' ? { reason: whyMissing(row) } : whatDiffers(row)
    compared.found.push({ kind, collection, id, source_id, ...about })
  }
}

function whyMissing({ standing, stored }: UnlikeRow): string {
  if (standing === 'quarantined') return 'stands in the quarantine, but not as it is in the source'
  if (stored === null) return 'is not stored'
  return 'a newer one of its id is stored, and this one does not stand in the history'
}

function whatDiffers(row: UnlikeRow): Pick<SourceFinding, 'reason' | 'differences'> {
  const wanted = JSON.parse(row.wanted)
  const differences = differencesOf(JSON.parse(row.stored ?? 'null'), wanted)
  if (differences.length > 0) {
    const told = differences.map(({ path, ours, theirs }) => ({
      path,
      ...(theirs !== undefined && { source: theirs }),
      ...(ours !== undefined && { stored: ours }),
    }))
    return { reason: 'fields differ', differences: told }
  }
  if (Date.parse(wanted.created_at) !== row.stored_created_at)
    return { reason: 'created_at is another one beside the item' }
  if (Date.parse(wanted.updated_at) !== row.stored_updated_at)
    return { reason: 'updated_at is another one beside the item' }
  return { reason: 'a number differs behind the digits that JavaScript keeps' }
}
