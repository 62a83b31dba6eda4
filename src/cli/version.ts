import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** From package.json, which stands one level further up in the built program than in the sources. */
export function version(): string {
  for (let directory = import.meta.dirname; ; directory = dirname(directory)) {
    const file = join(directory, 'package.json')
    if (!existsSync(file)) continue
    const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string }
    return version
  }
}
