import { DualstoreError } from '../errors.js'
import type { Config } from './settings.js'

const LOOPBACK = /^(localhost|127(\.\d+){3}|::1|\[::1\])$/

/** What an operator must never be unsure about: whether anybody may call this server. Nothing but settings decides. */
export function authIsOn(config: Pick<Config, 'authEnabled' | 'authBearerToken'>): boolean {
  return config.authEnabled ?? config.authBearerToken !== undefined
}

/** True when only this machine can reach the server. */
export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host)
}

/** Refuses to serve the network without authentication, unless told to. @throws INVALID_CONFIG */
export function requireSafeConfig(config: Config): void {
  if (authIsOn(config) || isLoopback(config.host) || config.insecureNoAuth) return
  throw new DualstoreError(
    'INVALID_CONFIG',
    `anybody who reaches ${config.host} could read and change everything: set AUTH_ENABLED=true and make a first ` +
      'key with `dualstore keys create --role admin --name first`, listen on 127.0.0.1, or say --insecure-no-auth',
  )
}
