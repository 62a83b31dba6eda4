import type { DocumentAuditEntry, DocumentAuditQuery } from '../../server/schemas/document-audit.js'
import type {
  AuditEntryAnswer,
  AuditListQuery,
  KeyAnswer,
  KeyInput,
  NewKeyAnswer,
} from '../../server/schemas/key.js'
import type { AuditPage } from '../../server/services/audit.js'
import type { DocumentAuditPage } from '../../server/services/document-audit.js'
import { loadSettings } from '../settings-options.js'
import { request, requestData, type ServerAddress } from './http.js'
import { type ConnectionFlags, serverOf } from './open.js'
import { apiPrefix } from './remote.js'

/**
 * API keys and the audit as the commands use them: the services in this process on the stores themselves, or a running
 * server over HTTP. Both reject with the catalogue's errors.
 */
export interface KeysClient {
  create(input: KeyInput): Promise<NewKeyAnswer>
  list(): Promise<KeyAnswer[]>
  show(id: string): Promise<KeyAnswer>
  rotate(id: string, overlapMs: number): Promise<NewKeyAnswer>
  revoke(id: string): Promise<KeyAnswer>
  /** Resolves to the ids of the keys removed. */
  prune(ageMs: number): Promise<string[]>
  /** One page of the audit, the newest entry first. */
  audit(query: AuditListQuery): Promise<AuditPage>
  /** One page of who changed documents, the newest change first; it may be empty before the end. */
  documentAudit(query: DocumentAuditQuery): Promise<DocumentAuditPage>
  close(): Promise<void>
}

/** Opens what the flags ask for. */
export async function openKeys(flags: ConnectionFlags): Promise<KeysClient> {
  const server = await serverOf(flags)
  return server === undefined ? openLocal(flags) : openRemote(server)
}

async function openLocal(flags: ConnectionFlags): Promise<KeysClient> {
  const [{ openContext }, { localAccess }, { createCommandLog }, loaded] = await Promise.all([
    import('../../server/context.js'),
    import('../../server/services/principal.js'),
    import('../log.js'),
    loadSettings(flags),
  ])
  const context = await openContext(loaded.config, await createCommandLog(loaded), { migrate: 'embedded' })
  const { keys, audit, documentAudit } = context
  return {
    create: (input) => keys.create(localAccess, input),
    list: () => keys.list(localAccess),
    show: (id) => keys.show(localAccess, id),
    rotate: (id, overlapMs) => keys.rotate(localAccess, id, overlapMs),
    revoke: (id) => keys.revoke(localAccess, id),
    prune: (ageMs) => keys.prune(localAccess, ageMs),
    audit: (query) => audit.list(localAccess, query),
    documentAudit: (query) => documentAudit.listDocumentChanges(localAccess, query),
    close: () => context.close(),
  }
}

async function openRemote(server: ServerAddress): Promise<KeysClient> {
  const prefix = await apiPrefix(server)
  const call = <T>(method: string, path: string, body?: object) =>
    requestData<T>(server, `${prefix}/keys${path}`, { method, ...(body && { body }) })
  const page = async <T>(
    path: string,
    query: object,
  ): Promise<{ entries: T[]; nextCursor: string | null }> => {
    const { data, pagination } = (await (await request(server, `${prefix}${path}`, { query })).json()) as {
      data: T[]
      pagination: { next_cursor: string | null }
    }
    return { entries: data, nextCursor: pagination.next_cursor }
  }
  const one = (id: string) => `/${encodeURIComponent(id)}`
  return {
    create: (input) => call('POST', '', input),
    list: () => call('GET', ''),
    show: (id) => call('GET', one(id)),
    rotate: (id, overlapMs) => call('POST', `${one(id)}/rotate`, { overlap_seconds: overlapMs / 1000 }),
    revoke: (id) => call('DELETE', one(id)),
    prune: async (ageMs) =>
      (await call<{ ids: string[] }>('POST', '/prune', { older_than_seconds: ageMs / 1000 })).ids,
    audit: (query) => page<AuditEntryAnswer>('/audit', query),
    documentAudit: (query) => page<DocumentAuditEntry>('/audit/documents', query),
    close: async () => {},
  }
}
