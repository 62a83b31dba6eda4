import { DualstoreError, invalid } from '../errors.js'

/**
 * If-Match and If-None-Match of a write. An ETag is a document's version in quotes; of a compressed answer the encoding
 * follows, since a strong tag may not stand for different bytes (RFC 9110, sections 8.8.3.3 and 13).
 */
export interface Precondition {
  ifMatch?: readonly number[] | '*'
  ifNoneMatch?: '*'
}

export function etagOf(version: number): string {
  return `"${version}"`
}

/** The tag of the same version when it is sent in a content encoding: `"3-br"`. A weak one stands for both. */
export function etagIn(etag: string, encoding: string): string {
  return etag.startsWith('W/') ? etag : `${etag.slice(0, -1)}-${encoding}"`
}

/**
 * Reads the versions of a list of entity tags. A tag that is not ours, or weak where a strong one is needed, matches
 * nothing and stands for version 0, which no document has.
 */
export function parseEtags(header: string, comparison: 'strong' | 'weak'): readonly number[] | '*' {
  if (header.trim() === '*') return '*'
  return header.split(',').map((tag) => {
    const [, weak, version] = /^(W\/)?"(\d{1,15})(?:-(?:br|gzip|zstd))?"$/.exec(tag.trim()) ?? []
    return version === undefined || (weak !== undefined && comparison === 'strong') ? 0 : Number(version)
  })
}

/** @throws INVALID_REQUEST for an If-None-Match that cannot hold for a write: only * has a meaning there. */
export function preconditionOf(headers: {
  'if-match'?: string | undefined
  'if-none-match'?: string | undefined
}): Precondition {
  const precondition: Precondition = {}
  if (headers['if-match'] !== undefined) precondition.ifMatch = parseEtags(headers['if-match'], 'strong')
  if (headers['if-none-match'] !== undefined) {
    if (headers['if-none-match'].trim() !== '*') throw invalid('if-none-match', 'must be * for a write')
    if (precondition.ifMatch !== undefined) {
      throw invalid('if-none-match', 'cannot hold together with if-match: send one of them')
    }
    precondition.ifNoneMatch = '*'
  }
  return precondition
}

/**
 * The one version a conditional write may replace; null for any that exists.
 * With several tags the stored version decides which of them is meant.
 */
export async function versionToMatch(
  ifMatch: readonly number[] | '*',
  read: () => Promise<{ version: number } | undefined>,
): Promise<number | null> {
  if (ifMatch === '*') return null
  const [only] = ifMatch
  if (ifMatch.length === 1 && only !== undefined) return only
  const version = (await read())?.version
  if (version !== undefined && ifMatch.includes(version)) return version
  const reason = version === undefined ? 'the document does not exist' : `the document has version ${version}`
  throw new DualstoreError('PRECONDITION_FAILED', reason)
}
