import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import type * as Yaml from 'yaml'
import { DualstoreError, type Fault } from '../errors.js'
import { type Config, dormant, flagOf, type Setting, type SettingKey, settings } from './settings.js'

/** Where values may come from; tests and the CLI give their own. */
export interface ConfigSources {
  /** Values given on the command line or to createServer(), by setting; text is parsed, other values are taken as given. */
  given?: Readonly<Partial<Record<SettingKey, unknown>>>
  env?: Readonly<NodeJS.ProcessEnv>
  /** A configuration file; by default dualstore.config.json or .yaml in the working directory, when there is one. */
  file?: string | undefined
}

/** A setting's value and where it came from: "flag", "env PORT", "file <name>" or "default". */
export interface EffectiveSetting {
  key: SettingKey
  value: unknown
  origin: string
  secret: boolean
}

export interface LoadedConfig {
  config: Config
  effective: readonly EffectiveSetting[]
  /** Settings somebody gave that have no effect in this version, with the name they were given under. */
  withoutEffect: readonly string[]
}

const keys = Object.keys(settings) as SettingKey[]
const FILES = ['dualstore.config.json', 'dualstore.config.yaml', 'dualstore.config.yml']

/**
 * Reads every setting: flag before environment before file before default.
 * @throws INVALID_CONFIG that names each wrong setting, its value and what is allowed.
 */
export function loadConfig(sources: ConfigSources = {}): LoadedConfig {
  const file = readFile(sources.file)
  const faults: Fault[] = [...file.faults]
  const effective: EffectiveSetting[] = []
  for (const key of keys) {
    const setting: Setting<unknown> = settings[key]
    const found = lookUp(key, setting, sources, file)
    const value = found === undefined ? setting.default : read(setting, found.value)
    if (found !== undefined && value === undefined) {
      const shown = setting.secret ? 'the given value' : JSON.stringify(found.value)
      faults.push({ field: found.label, message: `is ${shown}, but must be ${setting.kind.allowed}` })
    }
    effective.push({ key, value, origin: found?.origin ?? 'default', secret: setting.secret !== undefined })
  }
  if (faults.length > 0) {
    const message = faults.map((fault) => `${fault.field} ${fault.message}`).join('\n')
    throw new DualstoreError('INVALID_CONFIG', message, { details: faults })
  }
  const config = Object.fromEntries(effective.map(({ key, value }) => [key, value])) as unknown as Config
  const withoutEffect = effective
    .filter(({ key, origin }) => dormant.includes(key) && origin !== 'default')
    .map(({ origin, key }) => (origin.startsWith('env ') ? origin.slice(4) : key))
  return { config, effective, withoutEffect }
}

/** The value as it may be shown: secrets are masked, and of a connection string what could be a password. */
export function masked(effective: EffectiveSetting): unknown {
  const setting: Setting<unknown> = settings[effective.key]
  if (setting.secret === undefined || effective.value === undefined) return effective.value
  return setting.secret === 'in-url' ? maskedUrl(String(effective.value)) : '***'
}

/**
 * Masks the password of `scheme://user:password@host`, whatever characters it holds, and every parameter, which may
 * be one too (password, sslpassword, tlsCertificateKeyFilePassword, a session token), unless it is known to be none.
 */
function maskedUrl(url: string): string {
  const [, scheme = '', user = '', rest = ''] =
    /^([\w+]+:\/\/)(?:([^:@/?#]*)(?::.*)?@)?(.*)$/s.exec(url) ?? []
  const at = user === '' ? '' : `${user}:***@`
  return `${scheme}${at}${rest.replaceAll(/([?&])([^=&#]+)=([^&#]*)/g, (all, mark, name) =>
    harmlessParameters.has(String(name).toLowerCase()) ? all : `${mark}${name}=***`,
  )}`
}

const harmlessParameters = new Set(
  ['sslmode', 'replicaSet', 'authSource', 'w', 'tls', 'ssl', 'directConnection', 'readPreference'].map(
    (name) => name.toLowerCase(),
  ),
)

interface Found {
  value: unknown
  origin: string
  /** The name the user knows it by, for errors. */
  label: string
}

function lookUp(
  key: SettingKey,
  setting: Setting<unknown>,
  sources: ConfigSources,
  file: ConfigFile,
): Found | undefined {
  const given = sources.given?.[key]
  if (given !== undefined) return { value: given, origin: 'flag', label: flagOf(key) }
  for (const name of setting.env) {
    const value = sources.env?.[name]
    // An empty variable is how a shell or a compose file leaves one out.
    if (value !== undefined && value !== '') return { value, origin: `env ${name}`, label: name }
  }
  if (Object.hasOwn(file.values, key)) {
    return { value: file.values[key], origin: `file ${file.name}`, label: `${key} in ${file.name}` }
  }
  return undefined
}

function read(setting: Setting<unknown>, value: unknown): unknown {
  const { kind } = setting
  if (typeof value === 'string') return kind.parse(value.trim())
  const also: readonly unknown[] = [kind.also].flat()
  if (Array.isArray(value)) {
    return also.includes('list') && value.every((part) => typeof part === 'string')
      ? kind.parse(value.join(','))
      : undefined
  }
  return also.includes(typeof value) ? kind.parse(String(value)) : undefined
}

interface ConfigFile {
  name: string
  values: Readonly<Record<string, unknown>>
  faults: readonly Fault[]
}

function readFile(given: string | undefined): ConfigFile {
  const name = given ?? FILES.find((candidate) => existsSync(resolve(candidate)))
  if (name === undefined) return { name: '', values: {}, faults: [] }
  const fail = (message: string): ConfigFile => ({ name, values: {}, faults: [{ field: name, message }] })
  let text: string
  try {
    text = readFileSync(resolve(name), 'utf8')
  } catch (error) {
    return fail(`cannot be read: ${(error as Error).message}`)
  }
  // YAML 1.2 contains JSON, so one parser reads both. Its own messages quote the line, which may hold a secret.
  // Loaded here: most servers have no file.
  const { LineCounter, parseDocument } = createRequire(import.meta.url)('yaml') as typeof Yaml
  const lines = new LineCounter()
  const document = parseDocument(text, { prettyErrors: false, lineCounter: lines })
  const [problem] = [...document.errors, ...document.warnings]
  if (problem !== undefined) {
    const { line, col } = lines.linePos(problem.pos[0])
    return fail(`is not valid YAML or JSON at line ${line}, column ${col} (${problem.code})`)
  }
  const values: unknown = document.toJS()
  if (values === null) return { name, values: {}, faults: [] }
  if (typeof values !== 'object' || Array.isArray(values)) return fail('must hold one object of settings')
  const faults = Object.keys(values)
    .filter((key) => !Object.hasOwn(settings, key))
    .map((key) => ({
      field: `${key} in ${name}`,
      message: 'is not a setting; `dualstore config` lists them',
    }))
  return { name, values: values as Record<string, unknown>, faults }
}
