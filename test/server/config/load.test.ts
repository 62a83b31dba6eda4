import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import {
  type ConfigSources,
  loadConfig,
  type SettingKey,
  settings,
} from '../../../src/server/config/index.js'
import type { DualstoreError } from '../../../src/server/errors.js'

const directory = mkdtempSync(join(tmpdir(), 'dualstore-config-'))
afterAll(() => rmSync(directory, { recursive: true }))

let files = 0
function file(text: string, extension = 'yaml'): string {
  const name = join(directory, `config-${files++}.${extension}`)
  writeFileSync(name, text)
  return name
}

const nothing = file('')
/** Loads with no file but the one given: the working directory's own must not matter. */
const load = (sources: ConfigSources = {}) => loadConfig({ file: nothing, ...sources })
const origin = (key: SettingKey, sources: ConfigSources) =>
  load(sources).effective.find((setting) => setting.key === key)?.origin

function faultsOf(sources: ConfigSources): string[] {
  try {
    load(sources)
  } catch (error) {
    expect(error).toMatchObject({ code: 'INVALID_CONFIG' })
    return (error as DualstoreError).message.split('\n')
  }
  throw new Error('the configuration was accepted')
}

describe('precedence', () => {
  const path = file('port: 4003')
  const sources = { given: { port: '4001' }, env: { PORT: '4002' }, file: path }

  test.each([
    ['a flag before all', sources, 4001, 'flag'],
    ['then the environment', { ...sources, given: {} }, 4002, 'env PORT'],
    ['then the file', { file: path }, 4003, `file ${path}`],
    ['then the default', {}, 3000, 'default'],
  ])('%s', (_what, given, port, from) => {
    expect(load(given).config.port).toBe(port)
    expect(origin('port', given)).toBe(from)
  })

  test('an empty variable and an undefined flag count as not given', () => {
    expect(load({ given: { port: undefined }, env: { PORT: '' } }).config.port).toBe(3000)
  })

  test('of two names of one setting the first counts', () => {
    const env = { MONGODB_URI: 'mongodb://one', MCP_MONGO_URI: 'mongodb://two' }
    expect(load({ env }).config.mongodbUri).toBe('mongodb://one')
    expect(origin('mongodbUri', { env: { MCP_MONGO_URI: 'mongodb://two' } })).toBe('env MCP_MONGO_URI')
  })

  test('nothing given gives every default', () => {
    const { config, withoutEffect } = load()
    for (const [key, setting] of Object.entries(settings)) {
      expect(config[key as SettingKey], key).toEqual(setting.default)
    }
    expect(withoutEffect).toEqual([])
  })
})

describe('every name of the legacy configuration is honoured', () => {
  test.each<[string, string, SettingKey, unknown]>([
    ['HOST', '0.0.0.0', 'host', '0.0.0.0'],
    ['PORT', '8080', 'port', 8080],
    ['NODE_ENV', 'development', 'nodeEnv', 'development'],
    ['LOG_LEVEL', 'debug', 'logLevel', 'debug'],
    [
      'CORS_ORIGIN',
      'https://a.example, https://b.example',
      'corsOrigin',
      ['https://a.example', 'https://b.example'],
    ],
    ['CORS_CREDENTIALS', 'false', 'corsCredentials', false],
    ['AUTH_ENABLED', 'true', 'authEnabled', true],
    ['AUTH_BEARER_TOKEN', 'secret', 'authBearerToken', 'secret'],
    ['BEARER_AUTH_KEY', 'secret', 'authBearerToken', 'secret'],
    ['SSE_ENABLED', 'false', 'sseEnabled', false],
    ['SSE_POLLING_INTERVAL', '1000', 'ssePollingInterval', 1000],
    ['SSE_HEARTBEAT_INTERVAL', '15000', 'sseHeartbeatInterval', 15_000],
    ['OPENAPI_ENABLED', 'false', 'openapiEnabled', false],
    ['OPENAPI_PATH', '/api-docs', 'openapiPath', '/api-docs'],
    ['API_PREFIX', '/api/v2', 'apiPrefix', '/api/v2'],
    ['API_VERSION', '2.0.0', 'apiVersion', '2.0.0'],
    ['DATABASE_URL', 'postgresql://u:p@h:5432/d', 'databaseUrl', 'postgresql://u:p@h:5432/d'],
    ['DATABASE_POOL_SIZE', '20', 'databasePoolSize', 20],
    ['RATE_LIMIT_WINDOW_MS', '60000', 'rateLimitWindowMs', 60_000],
    ['RATE_LIMIT_MAX_REQUESTS', '10', 'rateLimitMaxRequests', 10],
    ['CACHE_TTL_SECONDS', '60', 'cacheTtlSeconds', 60],
    ['CACHE_MAX_SIZE', '5', 'cacheMaxSize', 5],
    ['MONGODB_URI', 'mongodb://h:27017', 'mongodbUri', 'mongodb://h:27017'],
    ['MCP_MONGO_URI', 'mongodb+srv://h', 'mongodbUri', 'mongodb+srv://h'],
    ['CHROMA_URL', 'http://localhost:8000', 'chromaUrl', 'http://localhost:8000'],
    ['AGENT_NAME', 'goose', 'agentName', 'goose'],
    ['DUAL_WRITE_ENABLED', 'false', 'dualWriteEnabled', false],
    ['DUAL_WRITE_CONSISTENCY', 'strict', 'dualWriteConsistency', 'strict'],
  ])('%s=%s', (name, text, key, value) => {
    const env = { [name]: text }
    expect(load({ env }).config[key]).toEqual(value)
    expect(origin(key, { env })).toBe(`env ${name}`)
  })

  test.each(['error', 'warn', 'info', 'debug'])('its log level %s', (level) => {
    expect(load({ env: { LOG_LEVEL: level } }).config.logLevel).toBe(level)
  })

  test('those that do nothing in this version are told by the name they were given under', () => {
    const env = { CHROMA_URL: 'http://h', CACHE_TTL_SECONDS: '5', PORT: '1' }
    expect(load({ env }).withoutEffect).toEqual(['CHROMA_URL'])
    expect(load({ file: file('chromaUrl: http://h') }).withoutEffect).toEqual(['chromaUrl'])
  })
})

describe('trusted proxies', () => {
  const trusted = (text: string) => load({ env: { DUALSTORE_TRUST_PROXY: text } }).config.trustProxy

  test.each([
    ['true', true],
    ['off', false],
    ['1', 1],
    ['0', 0],
    ['10.0.0.1', ['10.0.0.1']],
    ['10.0.0.0/8, ::1, fc00::/7, loopback', ['10.0.0.0/8', '::1', 'fc00::/7', 'loopback']],
  ])('%s', (text, value) => {
    expect(trusted(text)).toEqual(value)
  })

  test.each([
    'maybe',
    '10.0.0.0/33',
    '::1/129',
    '10.0.0.1/8/8',
    '10.0.0',
    '10.0.0.1,',
    '101',
    '-1',
    '10.0.0.1/x',
  ])('%s is refused', (text) => {
    expect(() => trusted(text)).toThrow(/DUALSTORE_TRUST_PROXY/)
  })
})

describe('a flag', () => {
  test.each(['false', 'FALSE', ' false ', '0', 'no', 'off'])('%j is false', (text) => {
    expect(load({ env: { DUAL_WRITE_ENABLED: text } }).config.dualWriteEnabled).toBe(false)
  })

  test.each(['true', 'True', '1', 'yes', 'on'])('%j is true', (text) => {
    expect(load({ env: { AUTH_ENABLED: text } }).config.authEnabled).toBe(true)
  })

  test.each(['maybe', '2', 'constructor', 'toString', '__proto__'])('%j is refused', (text) => {
    expect(faultsOf({ env: { AUTH_ENABLED: text } })).toEqual([
      `AUTH_ENABLED is ${JSON.stringify(text)}, but must be true or false (also 1 or 0, yes or no, on or off)`,
    ])
  })
})

describe('a wrong value', () => {
  test.each<[string, ConfigSources, string]>([
    ['a flag', { given: { port: 'x' } }, '--port is "x", but must be a whole number from 0 to 65535'],
    [
      'a variable',
      { env: { DATABASE_POOL_SIZE: '1' } },
      'DATABASE_POOL_SIZE is "1", but must be a whole number from 2 to 1000',
    ],
    ['too large', { env: { PORT: '65536' } }, 'PORT is "65536", but must be a whole number from 0 to 65535'],
    ['a fraction', { env: { PORT: '80.5' } }, 'PORT is "80.5", but must be a whole number from 0 to 65535'],
    ['hexadecimal', { env: { PORT: '0x10' } }, 'PORT is "0x10", but must be a whole number from 0 to 65535'],
    [
      'a choice',
      { env: { LOG_LEVEL: 'loud' } },
      'LOG_LEVEL is "loud", but must be one of fatal, error, warn, info, debug, trace, silent',
    ],
    [
      'a list with a hole',
      { env: { CORS_ORIGIN: 'a,,b' } },
      'CORS_ORIGIN is "a,,b", but must be a comma-separated list',
    ],
    [
      'a path',
      { env: { API_PREFIX: 'api/' } },
      'API_PREFIX is "api/", but must be a path such as /api/v1, with a slash in front and none behind',
    ],
    [
      'a name',
      { env: { AGENT_NAME: 'a b' } },
      'AGENT_NAME is "a b", but must be letters, digits, dots, dashes and underscores, at most 60 of them',
    ],
    [
      'an address',
      { env: { CHROMA_URL: '', DATABASE_URL: 'mysql://u:hidden@h' } },
      'DATABASE_URL is the given value, but must be a URL that starts with postgresql:// or postgres://',
    ],
  ])('%s names the setting, the value and what is allowed', (_what, sources, message) => {
    expect(faultsOf(sources)).toEqual([message])
  })

  test('several are all named', () => {
    const path = file('logLevel: loud')
    expect(faultsOf({ given: { port: 'x' }, env: { AUTH_ENABLED: 'x' }, file: path })).toEqual([
      expect.stringMatching(/^--port is/),
      expect.stringContaining(`logLevel in ${path} is "loud"`),
      expect.stringMatching(/^AUTH_ENABLED is/),
    ])
  })
})

describe('the file', () => {
  test('YAML and JSON say the same', () => {
    const yaml = file(
      'port: 4000\ncorsOrigin: [https://a.example, https://b.example]\nauthEnabled: false\nhost: "::1"\n',
    )
    const json = file(
      '{"port": 4000, "corsOrigin": ["https://a.example", "https://b.example"], "authEnabled": false, "host": "::1"}',
      'json',
    )
    const expected = {
      port: 4000,
      corsOrigin: ['https://a.example', 'https://b.example'],
      authEnabled: false,
      host: '::1',
    }
    expect(load({ file: yaml }).config).toMatchObject(expected)
    expect(load({ file: json }).config).toEqual(load({ file: yaml }).config)
  })

  test.each(['colour', 'Port', 'PORT', 'toString', 'constructor', '__proto__'])(
    'an unknown key %s is refused',
    (key) => {
      const path = file(JSON.stringify(JSON.parse(`{"port": 1, "${key}": 2}`)), 'json')
      expect(faultsOf({ file: path })).toEqual([
        `${key} in ${path} is not a setting; \`dualstore config\` lists them`,
      ])
    },
  )

  test.each([
    ['port: [3000]', 'port'],
    ['port: null', 'port'],
    ['port: {a: 1}', 'port'],
    ['port: true', 'port'],
    ['apiVersion: 1.0', 'apiVersion'],
    ['host: [a, b]', 'host'],
    ['host: true', 'host'],
    ['authEnabled: 1', 'authEnabled'],
    ['corsOrigin: [{a: 1}]', 'corsOrigin'],
  ])('a value of another type, %j, is refused', (text, key) => {
    const path = file(text)
    expect(faultsOf({ file: path })).toEqual([expect.stringContaining(`${key} in ${path} is `)])
  })

  test.each(['- a\n- b', '"text"', '42'])('one that holds no object, %j, is refused', (text) => {
    const path = file(text)
    expect(faultsOf({ file: path })).toEqual([`${path} must hold one object of settings`])
  })

  test('one that cannot be parsed is refused by line and column, and does not show what the line holds', () => {
    const path = file('port: 1\ndatabaseUrl: "postgresql://u:hidden@h\nhost: x\n')
    const [message] = faultsOf({ file: path })
    expect(message).toMatch(/is not valid YAML or JSON at line \d+, column \d+/)
    expect(message).not.toContain('hidden')
  })

  test('a key given twice is refused', () => {
    expect(faultsOf({ file: file('port: 1\nport: 2') })).toEqual([
      expect.stringContaining('line 2, column 1'),
    ])
  })

  test('one that was named and is missing is refused', () => {
    expect(faultsOf({ file: join(directory, 'missing.yaml') })).toEqual([
      expect.stringMatching(/missing\.yaml cannot be read: ENOENT/),
    ])
  })
})

describe('what a program gives', () => {
  test('may be numbers, booleans and lists as well as text', () => {
    const given = { port: 0, authEnabled: true, corsOrigin: ['https://a.example'], logLevel: 'silent' }
    expect(load({ given }).config).toMatchObject(given)
  })
})
