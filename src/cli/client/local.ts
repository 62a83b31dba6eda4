import { Readable } from 'node:stream'
import type { LoadedConfig } from '../../server/config/load.js'
import { openContext } from '../../server/context.js'
import { localAccess } from '../../server/services/principal.js'
import { createCommandLog } from '../log.js'
import type { CollectionsClient } from './contract.js'
import { followLocal } from './follow-local.js'

/** Works on the stores themselves, through the same services as the server. Starts no followers: servers lead those. */
export async function openLocalClient(loaded: LoadedConfig): Promise<CollectionsClient> {
  const { config } = loaded
  const context = await openContext(config, await createCommandLog(loaded), { migrate: 'embedded' })
  const { collections, transfer, status } = context
  return {
    where: 'the local stores',
    list: () => collections.list(localAccess),
    show: (name) => collections.show(localAccess, name),
    create: (input) => collections.create(localAccess, input),
    replace: (name, input, options) => collections.replace(localAccess, name, input, options),
    modify: (name, members, options) => collections.modify(localAccess, name, members, options),
    drop: (name) => collections.drop(localAccess, name, name),
    count: (name) => collections.count(localAccess, name),
    importNdjson: (name, source, onConflict) =>
      transfer.importNdjson(localAccess, name, source, { onConflict, maxLineBytes: config.bodyLimitBytes }),
    async exportNdjson(name, selection) {
      const lines = await transfer.exportNdjson(localAccess, name, selection)
      return Readable.from(lines, { objectMode: false, highWaterMark: 1024 * 1024 })
    },
    follow: (request) => followLocal(context.streams, request),
    mirrorFollows: () => status.mirrorIsLed(),
    close: () => context.close(),
  }
}
