import { Counter, Gauge, type Registry } from 'prom-client'
import type { CacheStanding } from '../document-cache.js'

/** Registers what tells how the cache does: its hit rate is hits over hits and misses. */
export function registerCache(registry: Registry, read: () => CacheStanding): void {
  const registers = [registry]
  const counter = (name: string, help: string, member: 'hits' | 'misses') =>
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset()
        this.inc(read()[member])
      },
    })
  const gauge = (name: string, help: string, member: 'documents' | 'bytes') =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read()[member])
      },
    })
  counter('dualstore_cache_hits_total', 'Documents that were answered from the cache.', 'hits')
  counter('dualstore_cache_misses_total', 'Documents that the cache was asked for in vain.', 'misses')
  gauge('dualstore_cache_documents', 'Documents in the cache.', 'documents')
  gauge('dualstore_cache_bytes', 'Memory that the cache takes, about.', 'bytes')
}
