import type { CollectionsClient } from './client/contract.js'
import { say } from './output.js'

/** Followers run in servers: what was written without one waits in the log, and whoever looks at MongoDB should know. */
export async function sayWhenMirrorWaits(
  client: Pick<CollectionsClient, 'mirrorFollows'>,
  written: number,
): Promise<void> {
  if (written === 0 || (await client.mirrorFollows())) return
  say(
    'note: the mirror follows when a server runs on these stores (dualstore serve); until then the log keeps it',
  )
}
