import { hostname } from 'node:os'
import { MIRRORS_CHANNEL } from '../changes/hints.js'
import type { Change } from '../changes/read.js'
import type { Pool } from '../db/pool.js'
import type { Mirror, MirrorChange, Rejection } from '../mirror/contract.js'
import type { CollectionDefinition } from '../schemas/collection.js'
import type { Item } from '../schemas/item.js'
import { type ParkedDocument, parkDocuments, parkedAmong } from '../store/parked.js'
import type { Follower } from './contract.js'
import { createOrders } from './orders.js'
import { createPositionLoop, type PositionLoopOptions } from './position-loop.js'
import { createRebuild } from './rebuild.js'
import { createReport } from './report.js'

export const MIRROR_FOLLOWER = 'mirror'

export interface MirrorFollowerOptions
  extends Pick<PositionLoopOptions, 'instance' | 'hints' | 'progress' | 'pollMs' | 'log' | 'watch'> {
  pool: Pool
  mirror: Mirror
  /** How long the mirror may work on one request. */
  timeoutMs: number
  /** A collection's definition, dropped ones included. */
  definition(name: string): Promise<CollectionDefinition | undefined>
}

/** Changes read from the log and applied in one go: enough to fill bulk writes, little enough to stay in memory. */
const BATCH_SIZE = 1000

/** The follower that keeps the mirror: each document's newest change of a batch goes to it, poison ones are parked. */
export function createMirrorFollower(options: MirrorFollowerOptions): Follower {
  const { pool, mirror, log } = options
  const prepared = new Map<string, CollectionDefinition>()

  const prepare = async (definition: CollectionDefinition): Promise<void> => {
    if (prepared.get(definition.name) === definition) return
    await mirror.prepare(definition)
    prepared.set(definition.name, definition)
  }

  const apply = async (changes: readonly Change[]): Promise<void> => {
    const parked = new Set((await parkedAmong(pool, MIRROR_FOLLOWER, changes)).map(keyOf))
    const newest = new Map<string, Change>()
    // I6: later changes of a parked document wait behind it.
    for (const change of changes) if (!parked.has(keyOf(change))) newest.set(keyOf(change), change)
    const wanted: MirrorChange[] = []
    const refused: ParkedDocument[] = []
    for (const change of newest.values()) {
      const definition = await options.definition(change.collection)
      if (definition === undefined) {
        refused.push({ ...change, reason: `the collection ${change.collection} has no definition` })
        continue
      }
      await prepare(definition)
      wanted.push(toMirrorChange(change, definition))
    }
    const rejections = await mirror.apply(wanted)
    await park([...refused, ...rejections.map(toParked)])
  }

  const park = async (documents: readonly ParkedDocument[]): Promise<void> => {
    if (documents.length === 0) return
    await parkDocuments(pool, MIRROR_FOLLOWER, documents)
    for (const { collection, id, seq, reason } of documents) {
      log.error(
        { follower: MIRROR_FOLLOWER, collection, id, seq, reason },
        'parked a document the mirror cannot take',
      )
    }
  }

  const id = MIRROR_FOLLOWER
  const orders = createOrders({ pool, id, hints: options.hints })
  orders.onChange(() =>
    options.progress.ordered({ halted: orders.halted, rebuilding: orders.rebuild !== undefined }),
  )
  const rebuild = createRebuild({
    pool,
    id,
    mirror,
    log,
    ordered: () => orders.rebuild,
    park: (rejections) => park(rejections.map(toParked)),
    onFinished: () => options.hints.tell(MIRRORS_CHANNEL),
  })
  const report = createReport({ pool, id, instance: options.instance, host: hostname(), kind: mirror.kind })
  const loop = createPositionLoop({
    ...options,
    id,
    apply,
    orders,
    chore: rebuild,
    requestLimitMs: options.timeoutMs,
    batchSize: BATCH_SIZE,
  })
  return {
    id,
    run() {
      orders.run()
      report.run()
      loop.run()
    },
    async stop() {
      await loop.stop()
      orders.stop()
      await report.stop()
    },
  }
}

function keyOf(document: { collection: string; id: string }): string {
  return `${document.collection}\u0000${document.id}`
}

function toMirrorChange(change: Change, definition: CollectionDefinition): MirrorChange {
  const { id, seq, version } = change
  const item = change.op === 'delete' ? null : (JSON.parse(change.text) as Item)
  return { definition, id, seq, version, item }
}

function toParked({ change, reason }: Rejection): ParkedDocument {
  return { collection: change.definition.name, id: change.id, seq: change.seq, reason }
}
