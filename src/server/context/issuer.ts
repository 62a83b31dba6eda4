import { type Config, issuerOf } from '../config/index.js'
import type { Log } from '../followers/contract.js'
import type { Authenticator } from '../services/authenticator.js'

/** What takes the tokens of the identity provider; undefined when none is configured, and then nothing is loaded. */
export async function openIssuer(config: Config, log: Log): Promise<Authenticator | undefined> {
  const told = issuerOf(config)
  if (told === undefined) return undefined
  const [{ createIssuer }, { remoteKeys }] = await Promise.all([
    import('../services/issuer.js'),
    import('../services/jwks.js'),
  ])
  const { issuer, audience, jwksUrl, roleNames } = told
  const { jwtRoleClaim: role, jwtScopesClaim: scopes, jwtRowsClaim: rows, tokenClockSkewMs } = config
  return createIssuer({
    issuer,
    audience,
    keys: remoteKeys({
      url: jwksUrl,
      onFailure: (err) =>
        log.warn({ err }, 'the keys of the issuer cannot be read; its tokens are answered with 503'),
    }),
    mapping: { role, roleNames, scopes, rows },
    clockSkewMs: tokenClockSkewMs,
  })
}
