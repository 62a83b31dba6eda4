import { DualstoreError } from '../errors.js'

/** What was being done when something failed: nothing of what a client has sent. */
export interface Circumstances {
  requestId?: string
  method?: string
  /** The pattern of the route, never a path. */
  route?: string
  status?: number
}

/** Tells an error tracker of failures. */
export interface Reports {
  /** Sends one failure, in the background; the same kind of failure at most once a minute. */
  report(error: unknown, circumstances: Circumstances): void
  /** Waits until everything is sent, two seconds at most. */
  flush(): Promise<void>
  close(): Promise<void>
}

export interface ReportsOptions {
  dsn: string
  environment: string
  release: string
  /** Masks keys and tokens in a text. */
  withoutSecrets(text: string): string
}

const FLUSH_MS = 2000
const SAME_MS = 60_000
/** Kinds of failures that are told apart; more than a program has. */
const MAX_KINDS = 1000

/**
 * Loads the core of Sentry's client, which knows the protocol and changes nothing in this process: no handlers, no
 * patched modules, no breadcrumbs. (`@sentry/node` brings 95 MB, most of it instrumentation and build tools.)
 * @throws INVALID_CONFIG when the package is not installed
 */
export async function openReports(options: ReportsOptions): Promise<Reports> {
  const sentry = await loadPackage().catch((cause: unknown) => {
    throw new DualstoreError(
      'INVALID_CONFIG',
      'SENTRY_DSN needs the optional package @sentry/core: install without --omit=optional, or leave it unset',
      { cause },
    )
  })
  const client = new sentry.ServerRuntimeClient({
    dsn: options.dsn,
    environment: options.environment,
    release: options.release,
    platform: 'node',
    runtime: { name: 'node', version: process.version },
    integrations: [sentry.linkedErrorsIntegration()],
    stackParser: sentry.createStackParser(sentry.nodeStackLineParser()),
    transport: (transport) => sentry.createTransport(transport, post(transport)),
    sendClientReports: false,
    beforeSend: (event) => scrubbed(event, options.withoutSecrets),
  })
  client.init()

  const told = new Map<string, number>()
  const isNews = (kind: string): boolean => {
    const now = performance.now()
    if (now < (told.get(kind) ?? 0)) return false
    if (told.size >= MAX_KINDS) told.clear()
    told.set(kind, now + SAME_MS)
    return true
  }

  return {
    report(error, { requestId, method, route, status }) {
      const code = error instanceof DualstoreError ? error.code : 'CRASH'
      // Every request fails while a store is away: one of them says as much as all.
      if (!isNews(`${code} ${method} ${route} ${(error as Error)?.message}`)) return
      const scope = new sentry.Scope()
      scope.setTags({ code, request_id: requestId, method, route, status })
      scope.setFingerprint(['{{ default }}', code, route ?? ''])
      client.captureException(error, { originalException: error }, scope)
    },
    flush: async () => void (await client.flush(FLUSH_MS)),
    close: async () => void (await client.close(FLUSH_MS)),
  }

  function post({ url, headers }: { url: string; headers?: Record<string, string> }) {
    return async ({ body }: { body: string | Uint8Array }) => {
      const answer = await fetch(url, {
        method: 'POST',
        headers: { ...headers, connection: 'close' },
        body,
        signal: AbortSignal.timeout(FLUSH_MS * 5),
      })
      await answer.arrayBuffer()
      return {
        statusCode: answer.status,
        headers: {
          'retry-after': answer.headers.get('retry-after'),
          'x-sentry-rate-limits': answer.headers.get('x-sentry-rate-limits'),
        },
      }
    }
  }
}

async function loadPackage() {
  const [common, server] = await Promise.all([import('@sentry/core'), import('@sentry/core/server')])
  return { ...common, ...server }
}

type Event = import('@sentry/core').ErrorEvent

/**
 * What may leave this process: what failed, where in the program, and the tags above. Messages of drivers quote what
 * clients have stored, so that whatever is quoted is left out.
 */
function scrubbed(event: Event, withoutSecrets: (text: string) => string): Event {
  const { event_id, timestamp, platform, level, environment, release, tags, fingerprint, contexts } = event
  const values = event.exception?.values?.map((exception) => {
    const { type, value, stacktrace, mechanism } = exception
    const frames = stacktrace?.frames?.map(({ filename, function: name, lineno, colno, in_app, module }) => ({
      filename,
      function: name,
      lineno,
      colno,
      in_app,
      module,
    }))
    return {
      type,
      value: withoutSecrets(withoutQuotes(value ?? '')),
      ...(mechanism && { mechanism: { type: mechanism.type, handled: mechanism.handled } }),
      ...(frames && { stacktrace: { frames } }),
    }
  })
  return {
    type: undefined,
    event_id,
    timestamp,
    platform,
    level,
    environment,
    release,
    tags,
    fingerprint,
    contexts: { runtime: contexts?.runtime },
    ...(values && { exception: { values } }),
  } as Event
}

function withoutQuotes(text: string): string {
  return text.replace(/"[^"]*"|'[^']*'|`[^`]*`/g, '"…"').slice(0, 500)
}
