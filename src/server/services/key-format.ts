import { createHash, randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'

/**
 * A key is `dsk_<id>_<secret>`: 12 characters of id, 43 of secret (256 random bits), and 6 of checksum (the CRC-32 of
 * everything in front of it), all in base 62. Prefix and checksum let a scanner of secrets recognise one without
 * asking, and let a mistyped one be refused without asking the database.
 */
const KEY = /^dsk_([0-9A-Za-z]{12})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})$/
const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const ID_LENGTH = 12
const SECRET_LENGTH = 43
const CHECKSUM_LENGTH = 6

/** What a key is, apart. */
export interface KeyParts {
  id: string
  secret: string
}

/** A fresh key id. */
export function newKeyId(): string {
  // 72 bits, cut to 71.4: ids are names, not secrets.
  return base62(randomBytes(9), ID_LENGTH)
}

/** A fresh secret: 256 random bits. */
export function newSecret(): string {
  return base62(randomBytes(32), SECRET_LENGTH)
}

/** The key as its owner gets it. */
export function formatKey({ id, secret }: KeyParts): string {
  const text = `dsk_${id}_${secret}`
  return text + checksum(text)
}

/** True for what is meant to be a key, well-formed or not. */
export function looksLikeKey(text: string): boolean {
  return text.startsWith('dsk_')
}

/** Takes a key apart; undefined when it cannot be one. */
export function parseKey(text: string): KeyParts | undefined {
  const [, id, secret, sum] = KEY.exec(text) ?? []
  if (id === undefined || secret === undefined) return undefined
  return sum === checksum(text.slice(0, -CHECKSUM_LENGTH)) ? { id, secret } : undefined
}

/** True for a key's id. */
export function isKeyId(text: string): boolean {
  return /^[0-9A-Za-z]{12}$/.test(text)
}

/** What is stored of a secret. A plain hash is right for 256 random bits: migration 0004 says why. */
export function hashSecret(secret: string): Buffer {
  return createHash('sha256').update(secret).digest()
}

/** Replaces the secret of every key and all of every token in a text, so that it may be logged. */
export function withoutSecrets(text: string): string {
  const keyless = text.includes('dsk_')
    ? text.replace(/(dsk_[0-9A-Za-z]{1,24}_)[0-9A-Za-z]+/g, '$1***')
    : text
  // A token (JWT) begins with {" in base64url. The length of its header is bounded to keep this linear.
  return keyless.includes('eyJ') ? keyless.replace(/eyJ[\w-]{1,1000}\.[\w-]+\.[\w-]*/g, 'eyJ***') : keyless
}

function checksum(text: string): string {
  return encode(BigInt(crc32(text)), CHECKSUM_LENGTH)
}

function base62(bytes: Buffer, length: number): string {
  return encode(BigInt(`0x${bytes.toString('hex')}`), length)
}

/** The last `length` digits of a number in base 62. */
function encode(number: bigint, length: number): string {
  let text = ''
  for (let rest = number; text.length < length; rest /= 62n) text = DIGITS[Number(rest % 62n)] + text
  return text
}
