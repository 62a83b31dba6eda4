import type { Item } from '../../schemas/item.js'
import type { Intake } from '../../store/migrations-intake.js'

/** A document of the source as it was understood, with what was odd about it. */
export type TakenDocument<Oddity extends string = string> =
  | {
      kind: 'item'
      sourceId: string
      item: Item
      /** Epoch milliseconds, the same as in the item. */
      createdAt: number
      updatedAt: number
      oddities: readonly Oddity[]
    }
  | {
      kind: 'quarantined'
      sourceId: string
      /** The id it would have had, when that was found out. */
      id: string | null
      /** Why it cannot be taken, in a sentence that names the field. */
      reason: string
      /** The whole document as canonical extended JSON. */
      document: string
      oddities: readonly Oddity[]
    }

/** Documents of one collection in the source's order, gone through once, with the place behind them. */
export interface TakenBatch {
  collection: string
  documents: Iterable<TakenDocument>
  /** Where to go on behind these. */
  checkpoint: string
  following?: boolean
  /** Documents that were deleted in the source. */
  deleted?: number
}

/** Puts a batch into the form in which it is taken in: what costs time and needs no database. */
export function prepareIntake({
  collection,
  documents,
  checkpoint,
  following = false,
  deleted = 0,
}: TakenBatch): Intake {
  const intake: Intake & { oddities: Record<string, number> } = {
    collection,
    ids: [],
    texts: [],
    createdAts: [],
    updatedAts: [],
    sourceIds: [],
    turns: null,
    quarantined: [],
    oddities: {},
    following,
    checkpoint,
    deleted,
  }
  for (const document of documents) {
    for (const oddity of document.oddities) intake.oddities[oddity] = (intake.oddities[oddity] ?? 0) + 1
    if (document.kind === 'quarantined') {
      const { sourceId, id, reason } = document
      intake.quarantined.push({
        source_id: storable(sourceId),
        id: id === null ? null : storable(id),
        reason: storable(reason),
        document: document.document,
      })
      continue
    }
    intake.ids.push(document.item.id)
    intake.texts.push(JSON.stringify(document.item))
    intake.createdAts.push(document.createdAt)
    intake.updatedAts.push(document.updatedAt)
    intake.sourceIds.push(storable(document.sourceId))
  }
  intake.turns = turnsOf(intake.ids)
  return intake
}

/** Which of its id's documents each one is, from 1; null when every id stands once. */
export function turnsOf(ids: readonly string[]): number[] | null {
  if (new Set(ids).size === ids.length) return null
  const seen = new Map<string, number>()
  return ids.map((id) => {
    const turn = (seen.get(id) ?? 0) + 1
    seen.set(id, turn)
    return turn
  })
}

/** A part of an intake: documents from one place up to another; what else is to be remembered goes with the first. */
export function partOf(intake: Intake, from: number, to: number): Intake {
  const ids = intake.ids.slice(from, to)
  return {
    ...intake,
    ids,
    texts: intake.texts.slice(from, to),
    createdAts: intake.createdAts.slice(from, to),
    updatedAts: intake.updatedAts.slice(from, to),
    sourceIds: intake.sourceIds.slice(from, to),
    turns: turnsOf(ids),
    ...(from > 0 && { quarantined: [], oddities: {}, deleted: 0 }),
  }
}

/** An intake of only the documents at these places; what else is to be remembered stays. */
export function pickOf(intake: Intake, places: readonly number[]): Intake {
  const pick = <T>(values: readonly T[]) => places.map((place) => values[place] as T)
  const ids = pick(intake.ids)
  return {
    ...intake,
    ids,
    texts: pick(intake.texts),
    createdAts: pick(intake.createdAts),
    updatedAts: pick(intake.updatedAts),
    sourceIds: pick(intake.sourceIds),
    turns: turnsOf(ids),
  }
}

/**
 * The same intake with some of its documents in quarantine.
 * @param originalOf The whole document at a place; without it the item is kept.
 */
export function withRefused(
  intake: Intake,
  reasons: ReadonlyMap<number, string>,
  originalOf: (place: number) => string = (place) => intake.texts[place] ?? 'null',
): Intake {
  const kept = intake.ids.map((_, place) => place).filter((place) => !reasons.has(place))
  return {
    ...pickOf(intake, kept),
    quarantined: [
      ...intake.quarantined,
      ...[...reasons].map(([place, reason]) => ({
        source_id: intake.sourceIds[place] ?? '',
        id: storable(intake.ids[place] ?? ''),
        reason,
        document: originalOf(place),
      })),
    ],
  }
}

/** PostgreSQL holds no NUL and no half of a surrogate pair. */
function storable(text: string): string {
  return text.replaceAll('\u0000', '\\u0000').toWellFormed()
}
