import * as zlib from 'node:zlib'
import { Negotiator } from '@fastify/accept-negotiator'
import compress, { type FastifyCompressOptions } from '@fastify/compress'
import type { FastifyInstance, FastifyReply, FastifyRequest, preParsingHookHandler } from 'fastify'
import type { Config } from '../config/index.js'
import { DualstoreError } from '../errors.js'
import { etagIn } from '../services/precondition.js'

/** Of text that changes with each answer: above it brotli takes more time than it saves bytes. */
const BROTLI_QUALITY = 4

const { BROTLI_OPERATION_FLUSH, BROTLI_PARAM_QUALITY, BROTLI_PARAM_SIZE_HINT, Z_SYNC_FLUSH } = zlib.constants

type Compressed = (error: Error | null, bytes: Buffer) => void

/** What later versions of Node have besides. */
interface Zstd {
  zstdCompress(bytes: Buffer, done: Compressed): void
  createZstdCompress(options: { flush: number }): NodeJS.ReadWriteStream
  constants: { ZSTD_e_flush: number }
}
const zstd = 'zstdCompress' in zlib ? (zlib as unknown as Zstd) : undefined

/** How a whole text is compressed, in the order in which they are preferred. */
const coders: Readonly<Record<string, (bytes: Buffer, done: Compressed) => void>> = {
  ...(zstd && { zstd: zstd.zstdCompress }),
  br: (bytes, done) =>
    zlib.brotliCompress(
      bytes,
      { params: { [BROTLI_PARAM_QUALITY]: BROTLI_QUALITY, [BROTLI_PARAM_SIZE_HINT]: bytes.length } },
      done,
    ),
  gzip: zlib.gzip,
}

const encodings = [...Object.keys(coders), 'identity'] as ('br' | 'gzip' | 'identity')[]
const negotiator = new Negotiator({ supportedValues: encodings })

/** Streams are compressed by the plugin. What has been written so far is sent at once: lines are read as they come. */
const ofStreams: FastifyCompressOptions = {
  global: false,
  encodings,
  customTypes: isCompressible,
  brotliOptions: { flush: BROTLI_OPERATION_FLUSH, params: { [BROTLI_PARAM_QUALITY]: BROTLI_QUALITY } },
  zlibOptions: { flush: Z_SYNC_FLUSH },
  ...(zstd && {
    zlib: {
      ...zlib,
      createZstdCompress: () => zstd.createZstdCompress({ flush: zstd.constants.ZSTD_e_flush }),
    },
  }),
}

const ofBodies: FastifyCompressOptions = {
  onUnsupportedRequestEncoding: (encoding) =>
    new DualstoreError('UNSUPPORTED_MEDIA_TYPE', `Content-Encoding ${encoding} is not one that is read here`),
}

const BODILESS = new Set(['GET', 'HEAD', 'OPTIONS'])

/**
 * Compresses answers as the client accepts it, and reads bodies that are compressed.
 *
 * Text from the threshold on is compressed in one piece here: its length is told, HEAD is answered like GET, and it
 * takes a third of the processor time that it takes the plugin, which leads text through four streams. Streams are
 * the plugin's, of routes that have `compress: {}`. Event streams do not pass through here at all. What is not to be
 * stored is not compressed either: it holds secrets (docs/security.md).
 */
export async function registerCompression(app: FastifyInstance, config: Config): Promise<void> {
  const on = config.compression === 'on'
  app.addHook('onRoute', (route) => {
    route.compress = on && route.compress !== undefined && ofStreams
    if (BODILESS.has(String(route.method))) route.decompress = false
    else route.preParsing = [endExpansion, ...[route.preParsing ?? []].flat()]
  })
  await app.register(compress, { ...ofStreams, ...ofBodies, globalDecompression: true })
  if (!on) return
  const threshold = config.compressionThresholdBytes
  app.addHook('onSend', (request, reply, payload, done) => {
    // Most answers are small: they must not pay for the others.
    if (typeof payload === 'string' || Buffer.isBuffer(payload)) {
      if (payload.length < threshold) done()
      else sendCompressed(request, reply, payload, done)
      return
    }
    if (reply.statusCode === 304) nameKnown(request, reply)
    else if (payload !== undefined && payload !== null && isCompressible(typeOf(reply))) varies(reply)
    done()
  })
}

function sendCompressed(
  request: FastifyRequest,
  reply: FastifyReply,
  payload: string | Buffer,
  done: (error: Error | null, payload?: unknown) => void,
): void {
  if (!isCompressible(typeOf(reply)) || reply.hasHeader('content-encoding') || isSecret(reply)) {
    done(null, payload)
    return
  }
  varies(reply)
  const encoding = encodingFor(request)
  const code = encoding === null ? undefined : coders[encoding]
  if (encoding === null || code === undefined) {
    done(null, payload)
    return
  }
  reply.header('content-encoding', encoding)
  const etag = reply.getHeader('etag')
  if (typeof etag === 'string') reply.header('etag', etagIn(etag, encoding))
  reply.removeHeader('content-length')
  code(typeof payload === 'string' ? Buffer.from(payload) : payload, done)
}

/** JSON, NDJSON and text; all else is compressed already, or a stream of events. */
function isCompressible(type: string): boolean {
  return /^(?:text\/(?!event-stream)|application\/(?:[\w.+-]+\+)?(?:json|x-ndjson)\b)/.test(type)
}

function typeOf(reply: FastifyReply): string {
  return String(reply.getHeader('content-type') ?? '')
}

function isSecret(reply: FastifyReply): boolean {
  return /\bno-(?:store|transform)\b/.test(String(reply.getHeader('cache-control') ?? ''))
}

function encodingFor({ headers }: FastifyRequest): string | null {
  const accepted = headers['accept-encoding']
  return typeof accepted === 'string' ? negotiator.negotiate(accepted.toLowerCase()) : null
}

/** Told of every answer that would be another one for another client, compressed or not. */
function varies(reply: FastifyReply): void {
  const given = reply.getHeader('vary')
  reply.header('vary', given === undefined ? 'accept-encoding' : `${given}, accept-encoding`)
}

/** A 304 names the representation that the client holds, or a cache would not find it again (RFC 9111, 4.3.4). */
function nameKnown(request: FastifyRequest, reply: FastifyReply): void {
  varies(reply)
  const etag = reply.getHeader('etag')
  const encoding = encodingFor(request)
  if (typeof etag !== 'string' || encoding === null || !(encoding in coders)) return
  const held = etagIn(etag, encoding)
  if (request.headers['if-none-match']?.includes(held)) reply.header('etag', held)
}

/** Stops what expands a body once the request is answered: of one that is refused, nothing more must be expanded. */
const endExpansion: preParsingHookHandler = (request, reply, payload, done) => {
  if (payload !== request.raw) reply.raw.once('finish', () => payload.destroy())
  done(null, payload)
}
