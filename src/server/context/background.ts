import type { Config } from '../config/index.js'
import type { Pool } from '../db/pool.js'
import type { Log } from '../followers/contract.js'
import type { Services } from '../ingest/service-sink.js'
import { unrestricted } from '../services/principal.js'
import { forgetIdempotencyKeys } from '../store/documents.js'

const HOUSEKEEPING_MS = 60_000

/** Follows an OpenCode server until the signal comes. */
export async function ingestOpencode(
  config: Config,
  log: Log,
  services: Services,
  signal: AbortSignal,
): Promise<void> {
  const [{ ingestInBackground }, { createOpencodeProvider }, { createServiceSink }] = await Promise.all([
    import('../ingest/background.js'),
    import('../ingest/opencode.js'),
    import('../ingest/service-sink.js'),
  ])
  const provider = createOpencodeProvider({
    url: (config.ingestOpencodeUrl ?? '').replace(/\/+$/, ''),
    givenBy: 'DUALSTORE_INGEST_OPENCODE_URL',
    username: config.opencodeServerUsername,
    password: config.opencodeServerPassword,
    directory: config.ingestOpencodeDirectory,
  })
  const principal = { ...unrestricted('local'), id: 'ingest:opencode' }
  const sink = createServiceSink(services, { principal, address: undefined })
  await ingestInBackground({ provider, sink, log }, signal)
}

/** Forgets what has expired, every now and then; the returned function stops it. */
export function keepHouse(pool: Pool, idempotencyTtlMs: number, log: Log): () => void {
  const timer = setInterval(() => {
    forgetIdempotencyKeys(pool, idempotencyTtlMs).catch((err) => log.warn({ err }, 'housekeeping failed'))
  }, HOUSEKEEPING_MS)
  timer.unref()
  return () => clearInterval(timer)
}
