import type { Variant } from './contract.js'
import type { Side } from './exchange.js'
import { legacyCollections, MADE_UP_ID } from './routes.js'
import type { Facts } from './rules.js'
import { type Fields, isFields, itemsOf, member } from './values.js'

/** Documents of a collection that requests can be made of; a member is missing when there is none. */
export interface Known {
  collection: string
  /** Of documents that are there, as they are stored; a few. */
  ids: readonly string[]
  /** What a list gives as the id of its first item; the legacy server makes one up. */
  listedId?: { legacy: string; target: string }
  sessionId?: string
  /** Of a document in the middle, as ISO 8601. */
  createdAt?: string
}

export interface Survey {
  variant: Variant
  known: readonly Known[]
  facts: Omit<Facts, 'keyOnTargetOnly'>
}

/** Most documents that legacy lists looked at: 1,000, of events 100 in one version. */
const CAPS: Readonly<Record<string, readonly number[]>> = { opencode_events: [100, 1000] }
const MADE_UP_EXAMPLE = 'msg_ses_1_0_1700000000000'

/** Looks at both servers, or at the target alone, for what a check has to know. */
export async function survey(
  target: Side,
  legacy: Side | undefined,
  asked: Variant | 'auto',
): Promise<Survey> {
  const raw = legacy && (await legacy.ask({ method: 'GET', path: '/debug/dualstore-data' })).body
  const capped = new Set<string>()
  const duplicated = new Set<string>()
  const known: Known[] = []
  for (const collection of legacyCollections) {
    const path = `/api/v1/${collection}?limit=1000`
    const [theirs, ours] = await Promise.all([
      legacy?.ask({ method: 'GET', path }),
      target.ask({ method: 'GET', path }),
    ])
    const legacyItems = itemsOf(theirs?.body)
    const targetItems = itemsOf(ours.body)
    const rawItems = itemsOf({ data: member(raw, collection) })
    const total = Number(member(theirs?.body, 'pagination', 'total'))
    if ((CAPS[collection] ?? [1000]).includes(total)) capped.add(collection)
    if (hasUpdates(legacyItems) || hasTwins(rawItems)) duplicated.add(collection)
    known.push({
      collection,
      ids: textsOf(legacy === undefined ? targetItems : rawItems, 'id').slice(0, 3),
      ...listedIdOf(legacy === undefined ? undefined : legacyItems, targetItems),
      ...documentOf([...legacyItems, ...targetItems]),
    })
  }
  return { variant: await variantOf(legacy, asked), known, facts: { capped, duplicated } }
}

async function variantOf(legacy: Side | undefined, asked: Variant | 'auto'): Promise<Variant> {
  if (asked !== 'auto') return asked
  const health = await legacy?.ask({ method: 'GET', path: '/health' })
  // Only the simplified entry point tells of its stores.
  return isFields(member(health?.body, 'stores')) ? 'b' : 'a'
}

function listedIdOf(
  legacyItems: readonly Fields[] | undefined,
  targetItems: readonly Fields[],
): Pick<Known, 'listedId'> {
  const [target] = textsOf(targetItems, 'id')
  const legacy = legacyItems === undefined ? MADE_UP_EXAMPLE : textsOf(legacyItems, 'id')[0]
  return target !== undefined && legacy !== undefined && MADE_UP_ID.test(legacy)
    ? { listedId: { legacy, target } }
    : {}
}

function documentOf(items: readonly Fields[]): Pick<Known, 'sessionId' | 'createdAt'> {
  const [sessionId] = textsOf(items, 'session_id')
  const times = [...new Set(textsOf(items, 'created_at'))].sort()
  const createdAt = times[Math.floor(times.length / 2)]
  return { ...(sessionId !== undefined && { sessionId }), ...(createdAt !== undefined && { createdAt }) }
}

function textsOf(items: readonly Fields[], field: string): string[] {
  return items.map((item) => item[field]).filter((value) => typeof value === 'string')
}

/** Two items that were created at one moment in one session, and changed at different ones, are one document. */
function hasUpdates(items: readonly Fields[]): boolean {
  const changes = new Map<string, unknown>()
  return items.some(({ created_at, session_id, updated_at }) => {
    if (created_at === undefined) return false
    const key = JSON.stringify([created_at, session_id])
    const other = changes.get(key) ?? updated_at
    changes.set(key, updated_at)
    return other !== updated_at
  })
}

function hasTwins(items: readonly Fields[]): boolean {
  const ids = textsOf(items, 'id')
  return new Set(ids).size < ids.length
}
