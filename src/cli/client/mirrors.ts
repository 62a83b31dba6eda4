import type { MirrorStatus, Moved, Overview } from '../../server/schemas/mirrors.js'
import type { MoveRequest } from '../../server/services/mirror-control.js'
import { loadSettings } from '../settings-options.js'
import type { HttpRequest, ServerAddress } from './http.js'
import { type ConnectionFlags, serverOf, withOpened } from './open.js'

/** Mirrors as the commands use them: through the services in this process, or a running server over HTTP. */
export interface MirrorsClient {
  /** Where it works, to finish "… of": "the local stores", "http://host:3000". */
  readonly where: string
  status(signal?: AbortSignal): Promise<Overview>
  pause(name: string, reason: string | undefined): Promise<MirrorStatus>
  resume(name: string): Promise<MirrorStatus>
  rebuild(name: string, restart: boolean): Promise<MirrorStatus>
  setPosition(name: string, request: MoveRequest): Promise<Moved>
  close(): Promise<void>
}

/** Opens what the flags ask for, runs `work`, and closes it again, whatever happens. An interruption ends it at once. */
export async function withMirrors<T>(
  flags: ConnectionFlags,
  work: (client: MirrorsClient, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  return withOpened(async () => {
    const server = await serverOf(flags)
    return server === undefined ? openLocal(flags) : openRemote(server)
  }, work)
}

/** Orders stand in PostgreSQL, so they need no server: whoever leads the mirror finds them there. */
async function openLocal(flags: ConnectionFlags): Promise<MirrorsClient> {
  const loaded = await loadSettings(flags)
  const [{ openContext }, { createCommandLog }, { localAccess }] = await Promise.all([
    import('../../server/context.js'),
    import('../log.js'),
    import('../../server/services/principal.js'),
  ])
  const log = await createCommandLog(loaded)
  const context = await openContext(loaded.config, log, { migrate: 'embedded' })
  const { overview, mirrorControl } = context
  return {
    where: 'the local stores',
    status: () => overview.read(),
    pause: (name, reason) => mirrorControl.pause(name, reason, localAccess),
    resume: (name) => mirrorControl.resume(name, localAccess),
    rebuild: (name, restart) => mirrorControl.rebuild(name, { restart }, localAccess),
    setPosition: (name, request) => mirrorControl.setPosition(name, request, localAccess),
    close: () => context.close(),
  }
}

async function openRemote(server: ServerAddress): Promise<MirrorsClient> {
  const [{ requestData }, { apiPrefix }] = await Promise.all([import('./http.js'), import('./remote.js')])
  const prefix = await apiPrefix(server)
  const call = <T>(path: string, options?: HttpRequest) =>
    requestData<T>(server, `${prefix}/dualstore${path}`, options)
  const order = <T>(name: string, what: string, body: unknown) =>
    call<T>(`/mirrors/${encodeURIComponent(name)}/${what}`, { method: 'POST', body })
  return {
    where: server.url,
    status: (signal) => call('/status', signal && { signal }),
    pause: (name, reason) => order(name, 'pause', { ...(reason !== undefined && { reason }) }),
    resume: (name) => order(name, 'resume', {}),
    rebuild: (name, restart) => order(name, 'rebuild', { restart }),
    setPosition: (name, body) => order(name, 'position', body),
    close: async () => {},
  }
}
