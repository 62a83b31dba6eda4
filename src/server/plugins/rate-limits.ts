import rateLimit, { type RateLimitPluginOptions } from '@fastify/rate-limit'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from '../config/index.js'
import { DualstoreError } from '../errors.js'
import { countedAddress } from './address.js'
import { isHealth } from './health-paths.js'
import { openRedis } from './redis.js'

/** How many callers are counted at once in memory; the one that was quiet the longest is forgotten. */
const COUNTED = 20_000
/** How long this instance counts for itself before it asks a Redis again that failed. */
const REST_MS = 1000
const MINUTE_MS = 60_000

/** What is counted together. */
interface Budget {
  name: 'all' | 'read' | 'write' | 'auth'
  max: number
  windowMs: number
}

type Limiter = ReturnType<FastifyInstance['createRateLimit']>

/**
 * Counts requests of each key, else of each address, and refuses those beyond its budget with 429. Register behind
 * authentication. Reading and writing share the legacy limit unless they have a budget of their own; requests for
 * tokens are always counted by address.
 */
export async function registerRateLimits(app: FastifyInstance, config: Config): Promise<void> {
  const budgetOf = budgets(config)
  if (budgetOf === undefined) return
  const options: RateLimitPluginOptions = {
    max: (request) => budgetOf(request)?.max ?? 0,
    timeWindow: (request) => budgetOf(request)?.windowMs ?? 0,
    keyGenerator: (request) => {
      const budget = budgetOf(request)
      return `${budget?.name}:${budget?.name === 'auth' ? countedAddress(request) : callerOf(request)}`
    },
    cache: COUNTED,
  }
  const count = await createCounting(app, config, options)
  app.addHook('onRequest', (request, reply, done) => {
    const budget = budgetOf(request)
    if (budget === undefined || isHealth(request)) return done()
    count(request)
      .then((counted) => tell(reply, budget, counted))
      .then(() => done(), done)
  })
}

/** Which budget a request is of, if any; undefined when there are none at all. */
function budgets(config: Config): ((request: FastifyRequest) => Budget | undefined) | undefined {
  const { rateLimitMaxRequests: all, rateLimitWindowMs: windowMs, authAttemptsPerMinute } = config
  const { rateLimitReadMaxRequests: read, rateLimitWriteMaxRequests: write } = config
  const budget = (name: 'read' | 'write', own: number | undefined): Budget | undefined => {
    if (own !== undefined) return { name, max: own, windowMs }
    return all === undefined ? undefined : { name: 'all', max: all, windowMs }
  }
  const reading = budget('read', read)
  const writing = budget('write', write)
  const auth: Budget | undefined =
    authAttemptsPerMinute === 0
      ? undefined
      : { name: 'auth', max: authAttemptsPerMinute, windowMs: MINUTE_MS }
  if (reading === undefined && writing === undefined && auth === undefined) return undefined
  const tokens = `${config.apiPrefix}/auth/token`
  return (request) => {
    const { method } = request
    if (method === 'POST' && request.routeOptions.url === tokens) return auth
    return method === 'GET' || method === 'HEAD' || method === 'OPTIONS' ? reading : writing
  }
}

/** The key that was proved, or where the request comes from. */
function callerOf(request: FastifyRequest): string {
  // Not set where nobody is asked who they are.
  const principal = (request as Partial<FastifyRequest>).access?.principal
  if (principal?.kind === 'key' || principal?.kind === 'token') return principal.keyId ?? principal.id
  return countedAddress(request)
}

type Count = Exclude<Awaited<ReturnType<Limiter>>, { isAllowed: true }>

/** Headers of draft-ietf-httpapi-ratelimit-headers-07. @throws TOO_MANY_REQUESTS */
function tell(reply: FastifyReply, { max, windowMs, name }: Budget, count: Count): void {
  reply.header('ratelimit-limit', max)
  reply.header('ratelimit-remaining', count.remaining)
  reply.header('ratelimit-reset', count.ttlInSeconds)
  if (!count.isExceeded) return
  reply.header('retry-after', count.ttlInSeconds)
  const what = { all: 'requests', read: 'reads', write: 'writes', auth: 'requests for tokens' }[name]
  throw new DualstoreError(
    'TOO_MANY_REQUESTS',
    `at most ${max} ${what} in ${windowMs / 1000} seconds; try again in ${count.ttlInSeconds}`,
  )
}

/** In Redis when there is one and it answers, so that instances count together; else in memory. */
async function createCounting(
  app: FastifyInstance,
  config: Config,
  options: RateLimitPluginOptions,
): Promise<(request: FastifyRequest) => Promise<Count>> {
  const alone = await createLimiter(app, options)
  if (config.redisUrl === undefined) return async (request) => counted(await alone(request))
  const redis = await openRedis({ url: config.redisUrl, timeoutMs: config.redisTimeoutMs, log: app.log })
  app.addHook('onClose', async () => redis.disconnect())
  const shared = await createLimiter(app, { ...options, redis, nameSpace: 'dualstore-limit:' })
  let restUntil = 0
  return async (request) => {
    if (Date.now() >= restUntil && redis.status === 'ready') {
      try {
        return counted(await shared(request))
      } catch (err) {
        restUntil = Date.now() + REST_MS
        app.log.warn({ err }, 'Redis does not count requests; counting in this instance alone')
      }
    }
    return counted(await alone(request))
  }
}

/** A counter with a store of its own: the plugin has one for each scope that it is registered in. */
async function createLimiter(app: FastifyInstance, options: RateLimitPluginOptions): Promise<Limiter> {
  let limiter: Limiter | undefined
  await app.register(async (scope) => {
    await scope.register(rateLimit, { ...options, global: false })
    limiter = scope.createRateLimit()
  })
  if (limiter === undefined) throw new Error('the rate limiter was not made')
  return limiter
}

function counted(count: Awaited<ReturnType<Limiter>>): Count {
  if (count.isAllowed) throw new Error('nobody is on a list of those who are not counted')
  return count
}
