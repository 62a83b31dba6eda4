import type { Patience } from '../../../migrate/patience.js'
import type { Context } from '../../../server/context.js'
import { DualstoreError, invalid } from '../../../server/errors.js'
import { localAccess } from '../../../server/services/principal.js'
import { say } from '../../output.js'
import { loadSettings } from '../../settings-options.js'
import { LEGACY, type SourceFlags } from './source.js'

export type AdoptFlags = SourceFlags & { adopt?: boolean; dryRun?: boolean; config?: string }

/**
 * Sees to it that a source that is the mirror's own place is migrated only when it is to be adopted.
 * @throws CONFIRMATION_REQUIRED for such a source without --adopt, unless it is only to be looked at; INVALID_REQUEST
 * for --adopt with another source
 */
export async function checkAdoption(flags: AdoptFlags): Promise<void> {
  const { mongoUri, database = LEGACY.database, agentName = LEGACY.agentName, adopt, dryRun } = flags
  const { isSamePlace, mirrorPlace } = await import('../../../migrate/adopt.js')
  // The mirror has a prefix of its own, which is not --agent-name here.
  const { config } = await loadSettings(flags.config === undefined ? {} : { config: flags.config })
  const mirror = mirrorPlace(config)
  const same =
    mongoUri !== undefined &&
    mirror !== undefined &&
    isSamePlace({ uri: mongoUri, database, agentName }, mirror)
  if (!same) {
    if (adopt)
      throw invalid('--adopt', 'is for a source that is the mirror too: MONGODB_URI names another place')
    return
  }
  const effect =
    'the mirror rests until the cut-over, which replaces the legacy documents and keeps them in an archive'
  if (dryRun) return say(`note: the source is the mirror too. It needs --adopt: ${effect}`)
  if (!adopt) {
    throw new DualstoreError(
      'CONFIRMATION_REQUIRED',
      `the source is the mirror too, so its readers would see each document twice: with --adopt ${effect}`,
    )
  }
}

/** Pauses the mirror while the legacy server is the one that writes there. */
export async function restMirror(context: Context, patience: Patience): Promise<void> {
  const { migrations, overview, mirrorControl } = context
  const current = await migrations.current()
  // From here on clients may write to dualstore, and somebody may be about to let the mirror go on.
  if (current !== undefined && current.switch_position !== null && !migrations.isOver(current.state)) return
  const { pauseMirror } = await import('../../../migrate/mirror-steps.js')
  const steps = { overview, mirrorControl, access: localAccess, patience }
  await pauseMirror(steps, 'the legacy server writes there until the cut-over')
  say('the mirror rests until the cut-over')
}
