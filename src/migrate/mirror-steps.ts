import type { MirrorControl } from '../server/services/mirror-control.js'
import type { OverviewService } from '../server/services/overview.js'
import type { Access } from '../server/services/principal.js'
import type { Patience } from './patience.js'

/** What steps with the mirror need. */
export interface MirrorSteps {
  overview: OverviewService
  mirrorControl: MirrorControl
  access: Access
  patience: Patience
}

const MIRROR = 'mirror'

/** Lets the mirror go on; one that the log has outrun is built anew. */
export async function resumeMirror({ overview, mirrorControl, access }: MirrorSteps): Promise<void> {
  const { state } = await overview.mirror(MIRROR)
  if (state === 'paused') await mirrorControl.resume(MIRROR, access)
  if (state === 'lost') await mirrorControl.rebuild(MIRROR, {}, access)
}

/** Waits until the mirror holds everything that the log holds by now. */
export async function drained({ overview, patience }: MirrorSteps): Promise<void> {
  const head = numberOf((await overview.mirror(MIRROR)).head)
  await patience.until(async () => {
    const { state, reason, position, rebuild } = await overview.mirror(MIRROR)
    const rebuilding = rebuild !== null && rebuild.finished_at === null
    if (numberOf(position) >= head && !rebuilding) return undefined
    return state === 'running'
      ? 'the mirror is to catch up'
      : `the mirror is ${state}: ${reason ?? 'it goes on'}`
  })
}

/** Pauses the mirror and waits until nobody writes to it any more. */
export async function pauseMirror(steps: MirrorSteps, reason: string): Promise<void> {
  const { overview, mirrorControl, access, patience } = steps
  await mirrorControl.pause(MIRROR, reason, access)
  await patience.until(async () => {
    const { leader } = await overview.mirror(MIRROR)
    return leader === null ? undefined : 'the mirror is to come to rest'
  })
}

/** Pauses the mirror when it holds every write; what was written meanwhile is waited for. */
export async function stopMirror(steps: MirrorSteps, reason: string): Promise<void> {
  for (;;) {
    await drained(steps)
    await pauseMirror(steps, reason)
    if ((await steps.overview.mirror(MIRROR)).lag.changes === 0) return
    await resumeMirror(steps)
  }
}

/** The number of a position of the log, `<epoch>-<number>`. */
function numberOf(position: string): number {
  return Number(position.slice(position.indexOf('-') + 1))
}
