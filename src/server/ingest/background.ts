import type { Log } from '../followers/contract.js'
import { createIngester, type IngesterOptions } from './ingester.js'

/** How often the log tells how far the ingester is, when that has changed. */
const REPORT_MS = 60_000

/** Ingests until the signal is aborted and tells in the log how far it is: for a server, without anybody looking on. */
export async function ingestInBackground(
  options: Pick<IngesterOptions, 'provider' | 'sink'> & { log: Log },
  signal: AbortSignal,
): Promise<void> {
  const { provider, log } = options
  const ingester = createIngester(options)
  let told = ''
  const report = (message: string) => {
    const { provider: _provider, from: _from, to: _to, ...status } = ingester.status()
    if (JSON.stringify(status) === told) return
    told = JSON.stringify(status)
    log.info({ ingest: provider.id, ...status }, message)
  }
  const timer = setInterval(() => report('ingesting'), REPORT_MS)
  timer.unref()
  log.info({ ingest: provider.id, from: provider.where }, 'this instance ingests')
  try {
    await ingester.run(signal)
  } finally {
    clearInterval(timer)
    report('ingesting has ended')
  }
}
