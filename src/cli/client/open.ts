import { readFile } from 'node:fs/promises'
import { text as readAll } from 'node:stream/consumers'
import { type Command, Option } from 'commander'
import type { SettingKey } from '../../server/config/settings.js'
import { invalid } from '../../server/errors.js'
import { interruptible, unlessAborted } from '../interrupt.js'
import { askSecret, interactive } from '../prompt.js'
import { addSettings, givesSettings, loadSettings, type SettingFlags } from '../settings-options.js'
import type { CollectionsClient } from './contract.js'
import type { ServerAddress } from './http.js'

/** Where a command works. */
export type ConnectionFlags = SettingFlags & { url?: string; key?: string | true; keyFile?: string }

const localSettings: readonly SettingKey[] = ['databaseUrl', 'dataDir', 'logLevel']

/**
 * Adds --url and the key, and the settings that lead to local stores.
 * @param key false: without --key, where a command means something else by it.
 */
export function addConnection(
  command: Command,
  settings: readonly SettingKey[] = localSettings,
  { key } = { key: true },
): Command {
  command.addOption(
    new Option('--url <url>', 'a running server instead of the local stores (env: DUALSTORE_URL)').helpGroup(
      'Running server:',
    ),
  )
  if (key) {
    command.addOption(
      new Option('--key [key]', 'key for it; asks when it stands alone (env: DUALSTORE_KEY)')
        .conflicts('keyFile')
        .helpGroup('Running server:'),
    )
  }
  command.addOption(
    new Option('--key-file <file>', 'file that holds the key; - reads stdin').helpGroup('Running server:'),
  )
  return addSettings(command, settings, 'Local stores')
}

/**
 * The server that was asked for; undefined means the local stores. Flags for local stores win over DUALSTORE_URL.
 * @throws INVALID_REQUEST naming the flag
 */
export async function serverOf(flags: ConnectionFlags): Promise<ServerAddress | undefined> {
  const local = givesSettings(flags)
  if (flags.url !== undefined && local) {
    throw invalid(
      '--url',
      'names a running server, which the flags for local stores have no effect on; give one of both',
    )
  }
  const text = flags.url ?? (local ? undefined : process.env.DUALSTORE_URL || undefined)
  if (text === undefined) {
    for (const [name, value] of [
      ['--key', flags.key],
      ['--key-file', flags.keyFile],
    ] as const) {
      if (value !== undefined) throw invalid(name, 'is for a running server; give --url too')
    }
    return undefined
  }
  return {
    url: checkedUrl(text, flags.url === undefined ? 'DUALSTORE_URL' : '--url'),
    key: await keyOf(flags),
  }
}

/**
 * Opens what the flags ask for, runs `work`, and closes it again, whatever happens. Work that is interrupted is left
 * at once; work that wants to end in order is given the signal and has `inOrder` set.
 */
export async function withClient<T>(
  flags: ConnectionFlags,
  work: (client: CollectionsClient, signal: AbortSignal) => Promise<T>,
  options?: { inOrder: boolean },
): Promise<T> {
  return withOpened(() => open(flags), work, options)
}

/** The same with any kind of client. */
export async function withOpened<C extends { close(): Promise<void> }, T>(
  open: () => Promise<C>,
  work: (client: C, signal: AbortSignal) => Promise<T>,
  { inOrder } = { inOrder: false },
): Promise<T> {
  return interruptible(async (signal) => {
    const client = await open()
    try {
      const task = work(client, signal)
      return await (inOrder ? task : unlessAborted(signal, task))
    } finally {
      await client.close()
    }
  })
}

async function open(flags: ConnectionFlags): Promise<CollectionsClient> {
  const server = await serverOf(flags)
  if (server !== undefined) return (await import('./remote.js')).openRemoteClient(server)
  const loaded = await loadSettings(flags)
  return (await import('./local.js')).openLocalClient(loaded)
}

/** @throws INVALID_REQUEST naming what the text was given by */
export function checkedUrl(text: string, field: string, advice = 'the key goes into --key'): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !['http:', 'https:'].includes(url.protocol)) {
    throw invalid(field, 'must be a URL such as http://127.0.0.1:3000')
  }
  // The text is not repeated: it may hold a password.
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw invalid(field, `must hold no user, password, query or fragment; ${advice}`)
  }
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`
}

async function keyOf(flags: ConnectionFlags): Promise<string | undefined> {
  const [text, field] = await givenKey(flags)
  if (text === undefined) return undefined
  const key = text.trim()
  if (/^[\x21-\x7e]+$/.test(key)) return key
  throw invalid(field, 'must hold a key: visible ASCII characters without spaces')
}

async function givenKey({ key, keyFile }: ConnectionFlags): Promise<[string | undefined, string]> {
  if (key === true) {
    if (interactive()) return [await askSecret('Key:'), '--key']
    throw invalid(
      '--key',
      'stands alone, and there is no terminal to ask on; give --key-file or DUALSTORE_KEY',
    )
  }
  if (key !== undefined) return [key, '--key']
  if (keyFile === undefined) return [process.env.DUALSTORE_KEY || undefined, 'DUALSTORE_KEY']
  try {
    const text = keyFile === '-' ? await readAll(process.stdin) : await readFile(keyFile, 'utf8')
    return [text, '--key-file']
  } catch (error) {
    throw invalid('--key-file', `cannot be read: ${(error as Error).message}`)
  }
}
