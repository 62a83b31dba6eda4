import type { MigrationState } from '../../store/migrations.js'

/** What a migration may become from each state; the way forward stands first. */
export const transitions: Readonly<Record<MigrationState, readonly MigrationState[]>> = {
  planned: ['backfilled', 'rolled_back'],
  backfilled: ['following', 'finished', 'rolled_back'],
  following: ['verified', 'rolled_back'],
  // New writes of the legacy server make a verification worthless.
  verified: ['cut_over', 'following', 'rolled_back'],
  cut_over: ['finished', 'rolled_back'],
  finished: [],
  rolled_back: [],
}

/** True when nothing of a migration is left to do. */
export function isOver(state: MigrationState): boolean {
  return transitions[state].length === 0
}
