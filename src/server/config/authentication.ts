import { DualstoreError } from '../errors.js'
import type { Config } from './settings.js'

const LOOPBACK = /^(localhost|127(\.\d+){3}|::1|\[::1\])$/

/** What an operator must never be unsure about: whether anybody may call this server. Nothing but settings decides. */
export function authIsOn(config: Pick<Config, 'authEnabled' | 'authBearerToken' | 'jwtIssuer'>): boolean {
  return config.authEnabled ?? (config.authBearerToken !== undefined || config.jwtIssuer !== undefined)
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

/** The identity provider whose tokens are taken. */
export interface IssuerConfig {
  issuer: string
  audience: string
  jwksUrl: string
  /** Roles by the names the provider has for them; undefined: the names they have here. */
  roleNames: ReadonlyMap<string, RoleName> | undefined
}

type RoleName = 'reader' | 'writer' | 'admin'

/** What the settings say about it; undefined when there is none. @throws INVALID_CONFIG for one that is half told */
export function issuerOf(config: Config): IssuerConfig | undefined {
  const { jwtIssuer: issuer, jwtAudience: audience, jwtJwksUrl: jwksUrl, jwtRoleNames: names } = config
  if (issuer === undefined && audience === undefined && jwksUrl === undefined) return undefined
  if (issuer === undefined || audience === undefined || jwksUrl === undefined || !URL.canParse(jwksUrl)) {
    const all = 'DUALSTORE_JWT_ISSUER, DUALSTORE_JWT_AUDIENCE and DUALSTORE_JWT_JWKS_URL'
    throw new DualstoreError('INVALID_CONFIG', `${all} belong together, the last being a URL`)
  }
  return { issuer, audience, jwksUrl, roleNames: names && new Map(names.map(roleName)) }
}

function roleName(text: string): [string, RoleName] {
  const [, name, role] = /^(.+)=(reader|writer|admin)$/.exec(text) ?? []
  if (name !== undefined && role !== undefined) return [name, role as RoleName]
  throw new DualstoreError(
    'INVALID_CONFIG',
    `DUALSTORE_JWT_ROLE_NAMES has "${text}", which is not <name>=reader, =writer or =admin`,
  )
}
