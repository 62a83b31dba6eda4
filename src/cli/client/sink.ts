import { invalid } from '../../server/errors.js'
import type { Sink } from '../../server/ingest/contract.js'
import { loadSettings } from '../settings-options.js'
import type { CollectionsClient } from './contract.js'
import { type ServerAddress, send } from './http.js'
import { type ConnectionFlags, serverOf } from './open.js'

/** A sink as a command uses it. */
export interface OpenedSink extends Pick<CollectionsClient, 'mirrorFollows' | 'close'> {
  sink: Sink
}

/** Opens what the flags ask for: a running server, or the local stores. @throws INVALID_REQUEST naming the flag */
export async function openSink(flags: ConnectionFlags): Promise<OpenedSink> {
  const server = await serverOf(flags)
  if (server !== undefined) {
    const { createHttpSink } = await import('./http-sink.js')
    await refuseOpencode(server, flags.url === undefined ? 'DUALSTORE_URL' : '--url')
    return {
      sink: await createHttpSink(server),
      mirrorFollows: async () => true,
      close: async () => {},
    }
  }
  const [{ openContext }, { createServiceSink }, { localAccess }, { createCommandLog }, loaded] =
    await Promise.all([
      import('../../server/context.js'),
      import('../../server/ingest/service-sink.js'),
      import('../../server/services/principal.js'),
      import('../log.js'),
      loadSettings(flags),
    ])
  const context = await openContext(loaded.config, await createCommandLog(loaded), { migrate: 'embedded' })
  return {
    sink: createServiceSink(context, localAccess),
    mirrorFollows: () => context.status.mirrorIsLed(),
    close: () => context.close(),
  }
}

/** OpenCode answers whatever it is asked with its web page, so that writing to one would fail without a reason. */
async function refuseOpencode(server: ServerAddress, givenBy: string): Promise<void> {
  const response = await send(server, '/global/health', {})
  const said = (await response.json().catch(() => undefined)) as { healthy?: unknown } | undefined
  if (said?.healthy !== true) return
  throw invalid(
    givenBy,
    'names an OpenCode server; it must be the dualstore server to write to, and --from the OpenCode server',
  )
}
