import type { Queryable } from '../db/pool.js'
import type { CollectionDefinition } from '../schemas/collection.js'
import { readCollections } from '../store/collections.js'
import type { StoredRebuild } from '../store/rebuilds.js'

/** A part of a rebuild: one collection, or with sweep one collection of the mirror. */
export interface RebuildTask {
  phase: StoredRebuild['phase']
  name: string
  definition: CollectionDefinition
  /** Whose documents may stand there. */
  collections: string[]
}

/**
 * What a rebuild does, in order. Dropped collections are swept as well: a mirror that was lost may hold documents of
 * theirs. One that was made anew under the same mirror's name shares its sweep, so that nothing of it goes.
 */
export async function planRebuild(on: Queryable): Promise<RebuildTask[]> {
  const stored = await readCollections(on)
  const writes: RebuildTask[] = []
  const sweeps = new Map<string, RebuildTask>()
  for (const { definition, state } of stored) {
    const { name } = definition
    if (state !== 'dropped') writes.push({ phase: 'write', name, definition, collections: [name] })
    const into = definition.mirror.collection
    const sweep = sweeps.get(into)
    if (sweep === undefined) sweeps.set(into, { phase: 'sweep', name: into, definition, collections: [name] })
    else {
      sweep.collections.push(name)
      if (state !== 'dropped') sweep.definition = definition
    }
  }
  return [...writes, ...sweeps.values()]
}

/** Where in the plan a rebuild goes on. A collection that is no longer in it costs its phase to be repeated. */
export function placeInPlan(
  plan: readonly RebuildTask[],
  stored: Pick<StoredRebuild, 'phase' | 'collection'>,
): number {
  const exact = plan.findIndex((task) => task.phase === stored.phase && task.name === stored.collection)
  if (exact >= 0) return exact
  return plan.findIndex((task) => task.phase === stored.phase)
}
