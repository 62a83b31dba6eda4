import type { Logger } from 'pino'
import type { LoadedConfig } from '../server/config/load.js'
import { withoutSecrets } from '../server/services/key-format.js'
import { colourful } from './output.js'

/**
 * What the services tell while a command runs: lines for people on stderr, so that stdout holds the result alone.
 * Only warnings, unless a level was asked for.
 */
export async function createCommandLog({ config, effective }: LoadedConfig): Promise<Logger> {
  const [{ default: pino }, { default: pretty }] = await Promise.all([import('pino'), import('pino-pretty')])
  const asked = effective.some(({ key, origin }) => key === 'logLevel' && origin !== 'default')
  const stream = pretty({
    destination: 2,
    sync: true,
    colorize: colourful(process.stderr),
    singleLine: true,
    ignore: 'pid,hostname,time',
  })
  const hooks = { streamWrite: withoutSecrets }
  return pino({ level: asked ? config.logLevel : 'warn', hooks }, stream)
}
