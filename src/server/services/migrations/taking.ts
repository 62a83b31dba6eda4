import type { Pool } from '../../db/pool.js'
import { retrying, transaction } from '../../db/transaction.js'
import { DualstoreError } from '../../errors.js'
import { type Intake, type Taken, takeIn } from '../../store/migrations-intake.js'
import { refusedRow } from '../gatherer.js'
import { partOf, withRefused } from './intake.js'

/** Characters in one statement: jsonb arrays end at 256 MB. */
const MAX_TEXT = 32 * 1024 * 1024

/** A runner's right to take documents in. */
export interface RunnerOf {
  id: string
  runner: string
}

/** How a probe ends, so that nothing of it stays. */
class RolledBack extends Error {}

/** The way in for documents of a migration. @param tell Called when the log may have grown. */
export function createTaking(pool: Pool, tell: () => void) {
  /** All parts of an intake in one transaction, or with one part in one statement. */
  const take = async (of: RunnerOf, intake: Intake): Promise<Taken> => {
    const parts = partsOf(intake)
    const [only] = parts
    if (parts.length === 1 && only !== undefined) {
      return required(await retrying(() => takeIn(pool, of.id, of.runner, only)))
    }
    return transaction(pool, async (tx) => {
      const taken: Taken = { created: 0, replaced: 0, unchanged: 0, merged: 0 }
      for (const part of parts) {
        const more = required(await takeIn(tx, of.id, of.runner, part))
        for (const key of Object.keys(taken) as (keyof Taken)[]) taken[key] += more[key]
      }
      return taken
    })
  }

  /** Why PostgreSQL refuses some documents; undefined when it takes them. Nothing is written. */
  const refusal = async (of: RunnerOf, intake: Intake): Promise<string | undefined> => {
    try {
      await transaction(pool, async (tx) => {
        required(await takeIn(tx, of.id, of.runner, intake))
        throw new RolledBack()
      })
    } catch (error) {
      if (error instanceof RolledBack) return undefined
      const reason = reasonOf(error, intake)
      if (reason === undefined) throw error
      return reason
    }
    return undefined
  }

  /** The documents that PostgreSQL refuses, by halves until each stands alone. */
  const refused = async (
    of: RunnerOf,
    intake: Intake,
    from = 0,
    to = intake.ids.length,
  ): Promise<Map<number, string>> => {
    const reason = from === to ? undefined : await refusal(of, partOf(intake, from, to))
    if (reason === undefined) return new Map()
    if (to - from === 1) return new Map([[from, reason]])
    const middle = (from + to) >> 1
    return new Map([...(await refused(of, intake, from, middle)), ...(await refused(of, intake, middle, to))])
  }

  return {
    /**
     * Takes a batch in: documents, history, quarantine, counts and checkpoint in one transaction. A document that
     * PostgreSQL refuses goes into quarantine and disturbs no other.
     * @param originalOf The whole document at a place of the intake, as canonical extended JSON.
     * @throws CONFLICT when another runner has the migration now, or it is over; STORE_UNAVAILABLE
     */
    async takeIn(of: RunnerOf, intake: Intake, originalOf?: (place: number) => string): Promise<Taken> {
      const taken = await take(of, intake).catch(async (error: unknown) => {
        if (reasonOf(error, intake) === undefined) throw error
        const reasons = await refused(of, intake)
        if (reasons.size === 0) throw error
        return take(of, withRefused(intake, reasons, originalOf))
      })
      tell()
      return taken
    },
  }
}

function required(taken: Taken | undefined): Taken {
  if (taken !== undefined) return taken
  throw new DualstoreError('CONFLICT', 'another process has taken this migration over, or it was ended')
}

/** What PostgreSQL says of a document that it refuses; undefined for any other failure. */
function reasonOf(error: unknown, { collection, ids }: Intake): string | undefined {
  const told = refusedRow(error, { collection, id: ids[0] ?? '' })
  return told instanceof DualstoreError && told.code === 'INVALID_REQUEST' ? told.message : undefined
}

/** An intake in parts that each fit into one statement. */
export function partsOf(intake: Intake): Intake[] {
  const total = intake.texts.reduce((sum, text) => sum + text.length, 0)
  if (total <= MAX_TEXT) return [intake]
  const parts: Intake[] = []
  let from = 0
  let size = 0
  intake.texts.forEach((text, place) => {
    if (size > 0 && size + text.length > MAX_TEXT) {
      parts.push(partOf(intake, from, place))
      from = place
      size = 0
    }
    size += text.length
  })
  return [...parts, partOf(intake, from, intake.ids.length)]
}
