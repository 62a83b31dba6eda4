import type { FastifyBaseLogger } from 'fastify'

type LogLine = FastifyBaseLogger['info']
type Bindings = Parameters<FastifyBaseLogger['child']>[0]
type Options = Parameters<FastifyBaseLogger['child']>[1]

/**
 * The logger of one request, made with its first line. Most requests have none to write, and making a logger takes
 * longer than finding a document in the cache.
 */
class RequestLog implements FastifyBaseLogger {
  readonly #parent: FastifyBaseLogger
  readonly #bindings: Bindings
  readonly #options: Options
  #made: FastifyBaseLogger | undefined

  constructor(parent: FastifyBaseLogger, bindings: Bindings, options: Options) {
    this.#parent = parent
    this.#bindings = bindings
    this.#options = options
  }

  get #log(): FastifyBaseLogger {
    this.#made ??= this.#parent.child(this.#bindings, this.#options)
    return this.#made
  }

  get level(): string {
    return this.#log.level
  }

  set level(level: string) {
    this.#log.level = level
  }

  fatal(...line: Parameters<LogLine>): void {
    this.#log.fatal(...line)
  }

  error(...line: Parameters<LogLine>): void {
    this.#log.error(...line)
  }

  warn(...line: Parameters<LogLine>): void {
    this.#log.warn(...line)
  }

  info(...line: Parameters<LogLine>): void {
    this.#log.info(...line)
  }

  debug(...line: Parameters<LogLine>): void {
    this.#log.debug(...line)
  }

  trace(...line: Parameters<LogLine>): void {
    this.#log.trace(...line)
  }

  silent(...line: Parameters<LogLine>): void {
    this.#log.silent(...line)
  }

  child(bindings: Bindings, options?: Options): FastifyBaseLogger {
    return this.#log.child(bindings, options)
  }
}

/** For Fastify's `childLoggerFactory`. */
export function createRequestLog(
  logger: FastifyBaseLogger,
  bindings: Bindings,
  options: Options,
): FastifyBaseLogger {
  return new RequestLog(logger, bindings, options)
}
