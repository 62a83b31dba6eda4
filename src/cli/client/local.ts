import { Readable } from 'node:stream'
import type { LoadedConfig } from '../../server/config/load.js'
import { openContext } from '../../server/context.js'
import { createCommandLog } from '../log.js'
import type { CollectionsClient } from './contract.js'
import { followLocal } from './follow-local.js'

/** Works on the stores themselves, through the same services as the server. Starts no followers: servers lead those. */
export async function openLocalClient(loaded: LoadedConfig): Promise<CollectionsClient> {
  const { config } = loaded
  const context = await openContext(config, await createCommandLog(loaded), { migrate: 'embedded' })
  const { collections, transfer, listing, status } = context
  return {
    where: 'the local stores',
    list: () => collections.list(),
    show: (name) => collections.show(name),
    create: (input) => collections.create(input),
    replace: (name, input, options) => collections.replace(name, input, options),
    modify: (name, members, options) => collections.modify(name, members, options),
    drop: (name) => collections.drop(name, name),
    count: (name) => collections.count(name),
    importNdjson: (name, source, onConflict) =>
      transfer.importNdjson(name, source, { onConflict, maxLineBytes: config.bodyLimitBytes }),
    async exportNdjson(name, selection) {
      const lines = await transfer.exportNdjson(await listing.select(name, selection))
      return Readable.from(lines, { objectMode: false, highWaterMark: 1024 * 1024 })
    },
    follow: (request) => followLocal(context.streams, request),
    mirrorFollows: () => status.mirrorIsLed(),
    close: () => context.close(),
  }
}
