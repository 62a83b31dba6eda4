import type { MigrationState } from '../../store/migrations.js'

/** What a migration may become from each state; the way forward stands first. */
export const transitions: Readonly<Record<MigrationState, readonly MigrationState[]>> = {
  planned: ['backfilled', 'rolled_back'],
  // Without following when nothing is written to the source any more.
  backfilled: ['following', 'verified', 'finished', 'rolled_back'],
  following: ['verified', 'rolled_back'],
  // A later verification that is not clean, and another pass, make the one before worthless.
  verified: ['cut_over', 'following', 'backfilled', 'finished', 'rolled_back'],
  cut_over: ['finished', 'rolled_back'],
  finished: [],
  rolled_back: [],
}

/** True when nothing of a migration is left to do. */
export function isOver(state: MigrationState): boolean {
  return transitions[state].length === 0
}
