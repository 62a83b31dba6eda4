import type { Command } from 'commander'
import type { SettingKey } from '../../server/config/settings.js'
import { loadSettings } from '../settings-options.js'
import { addConnection, type ConnectionFlags, serverOf, withOpened } from './open.js'
import type { OperationsClient } from './operations.js'

const settings: readonly SettingKey[] = [
  'databaseUrl',
  'dataDir',
  'mongodbUri',
  'mongodbDatabase',
  'agentName',
  'mirrorTimeoutMs',
  'waitTimeoutMs',
  'logLevel',
]

/** Adds the flags that lead to a running server, or to both local stores. */
export function addOperations(command: Command): Command {
  return addConnection(command, settings)
}

/** As withClient, for operations. */
export async function withOperations<T>(
  flags: ConnectionFlags,
  work: (client: OperationsClient, signal: AbortSignal) => Promise<T>,
  options: { inOrder?: boolean } = {},
): Promise<T> {
  return withOpened(() => open(flags), work, options)
}

async function open(flags: ConnectionFlags): Promise<OperationsClient> {
  const server = await serverOf(flags)
  if (server !== undefined) return (await import('./operations-remote.js')).openRemoteOperations(server)
  const loaded = await loadSettings(flags)
  return (await import('./operations-local.js')).openLocalOperations(loaded)
}
