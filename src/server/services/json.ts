import { isUtf8 } from 'node:buffer'
import secureJson from 'secure-json-parse'
import { DualstoreError } from '../errors.js'

/**
 * Parses JSON that a client sent. It must really be UTF-8: a lenient decoder would store U+FFFD in place of what was
 * sent. Keys that would reach an object's prototype (__proto__, constructor.prototype) are refused.
 * @throws INVALID_JSON saying what is wrong.
 */
export function parseJson(bytes: Buffer, what = 'the body'): unknown {
  const fail = (message: string) => new DualstoreError('INVALID_JSON', message)
  if (bytes.length === 0) throw fail(`${what} is empty; it must be JSON`)
  if (!isUtf8(bytes)) throw fail(`${what} is not UTF-8`)
  try {
    return secureJson.parse(bytes.toString())
  } catch (error) {
    throw fail(`${what} cannot be read: ${(error as Error).message}`)
  }
}
