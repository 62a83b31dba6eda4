import type { Context, OpenOptions } from '../server/context.js'
import { interruptible } from './interrupt.js'
import { loadSettings } from './settings-options.js'

/** Opens the local stores, runs `work`, and closes them again, whatever happens. The signal tells of an interruption. */
export async function withLocalStores<T>(
  flags: object,
  options: OpenOptions,
  work: (context: Context, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const loaded = await loadSettings(flags)
  const [{ openContext }, { createCommandLog }] = await Promise.all([
    import('../server/context.js'),
    import('./log.js'),
  ])
  return interruptible(async (signal) => {
    const context = await openContext(loaded.config, await createCommandLog(loaded), options)
    try {
      return await work(context, signal)
    } finally {
      await context.close()
    }
  })
}
