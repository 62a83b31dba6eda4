import { type Finding, ok, warning } from './finding.js'

/** The settings that can contradict each other. */
export interface ExaminedSettings {
  host: string
  databaseUrl: string | undefined
  mongodbUri: string | undefined
  dualWriteEnabled: boolean
  dualWriteConsistency: 'eventual' | 'strict'
  waitTimeoutMs: number
  mirrorTimeoutMs: number
  authEnabled: boolean | undefined
  authBearerToken: string | undefined
  corsOrigin: readonly string[]
  corsCredentials: boolean
  metrics: 'on' | 'off'
  metricsToken: string | undefined
}

const LOOPBACK = /^(localhost|127(\.\d+){3}|::1|\[::1\])$/

/** Settings that do not do what whoever gave them will have meant. */
export function examineSettings(settings: ExaminedSettings): Finding[] {
  const findings: Finding[] = []
  const contradiction = (when: boolean, message: string, mend: string) => {
    if (when) findings.push(warning('settings', message, mend))
  }
  const tokenIsGiven = settings.authBearerToken !== undefined
  contradiction(
    settings.dualWriteConsistency === 'strict' && !settings.dualWriteEnabled,
    'writes are strict, but no mirror is written: every one of them is refused',
    'DUAL_WRITE_ENABLED=true, or DUAL_WRITE_CONSISTENCY=eventual',
  )
  contradiction(
    settings.dualWriteConsistency === 'strict' && settings.waitTimeoutMs < settings.mirrorTimeoutMs,
    'a strict write is given less time than one request to the mirror',
    `DUALSTORE_WAIT_TIMEOUT_MS above ${settings.mirrorTimeoutMs}`,
  )
  contradiction(
    settings.authEnabled === false && tokenIsGiven,
    'a bearer token is given, but authentication is switched off',
    'AUTH_ENABLED=true',
  )
  contradiction(
    !LOOPBACK.test(settings.host) && !(settings.authEnabled ?? tokenIsGiven),
    `anybody who reaches ${settings.host} may read and write everything`,
    'AUTH_BEARER_TOKEN=<secret>, or HOST=127.0.0.1',
  )
  contradiction(
    settings.metrics === 'off' && settings.metricsToken !== undefined,
    'a token for metrics is given, but metrics are switched off',
    'DUALSTORE_METRICS=on',
  )
  contradiction(
    settings.dualWriteEnabled && settings.databaseUrl !== undefined && settings.mongodbUri === undefined,
    'PostgreSQL is shared, but the mirror is a folder of this machine: instances elsewhere do not see it',
    'MONGODB_URI=mongodb://…',
  )
  return findings.length > 0 ? findings : [ok('settings', 'none contradicts another')]
}
