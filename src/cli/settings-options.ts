import { type Command, Option } from 'commander'
import type { LoadedConfig } from '../server/config/load.js'
// Not by way of config/index.ts: the loader brings a YAML parser, which --help does not need.
import { flagOf, type Setting, type SettingKey, settings } from '../server/config/settings.js'

/** What commander makes of the flags: one member for each setting given, and the file. */
export type SettingFlags = Readonly<Partial<Record<SettingKey, unknown>>> & { readonly config?: string }

export const allSettings = Object.keys(settings) as SettingKey[]

/**
 * Adds `--config` and a flag for each of the settings, grouped as in docs/configuration.md, or all under one heading:
 * that is for commands beside "serve", which log only warnings unless told.
 */
export function addSettings(command: Command, keys: readonly SettingKey[], group?: string): Command {
  command.addOption(
    new Option('--config <file>', 'configuration file (default: dualstore.config.json or .yaml)').helpGroup(
      `${group ?? 'Configuration'}:`,
    ),
  )
  for (const key of keys) {
    const setting: Setting<unknown> = settings[key]
    const option = new Option(
      `${flagOf(key)} ${placeholder(setting)}`,
      describe(setting, key === 'logLevel' && group !== undefined ? 'warn' : setting.default),
    )
    command.addOption(option.helpGroup(`${group ?? setting.group}:`))
  }
  return command
}

/** True when a setting or a file was given on the command line. */
export function givesSettings(flags: object): boolean {
  return Object.keys(flags).some((key) => key === 'config' || (key in settings && key !== 'logLevel'))
}

/** Flags, environment and file together. @throws INVALID_CONFIG */
export async function loadSettings(flags: object): Promise<LoadedConfig> {
  const { loadConfig } = await import('../server/config/load.js')
  const given = Object.fromEntries(Object.entries(flags).filter(([key]) => key in settings))
  return loadConfig({ given, env: process.env, file: (flags as SettingFlags).config })
}

function placeholder(setting: Setting<unknown>): string {
  switch (typeof setting.default) {
    // A bare --flag means true.
    case 'boolean':
      return '[true|false]'
    case 'number':
      return '<number>'
    default:
      return setting.kind.allowed.startsWith('one of') ? '<choice>' : '<value>'
  }
}

function describe(setting: Setting<unknown>, fallback: unknown): string {
  const allowed = setting.kind.allowed.startsWith('one of') ? ` ${capitalised(setting.kind.allowed)}.` : ''
  const value = fallback === undefined ? '' : `default: ${String(fallback)}, `
  return `${setting.help}${allowed} (${value}env: ${setting.env[0]})`
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}
