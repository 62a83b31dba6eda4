import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { catalogue, DualstoreError, type ErrorCode, invalid, invalidAll } from '../../src/server/errors.js'

const codes = Object.keys(catalogue) as ErrorCode[]

describe('docs/errors.md', () => {
  const text = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8')
  const rows = text
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) =>
      line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim()),
    )
  const rowOf = new Map(rows.map((row) => [row[0]!.replaceAll('`', ''), row]))

  test('lists every code of the catalogue once, and no other', () => {
    expect(rows.map((row) => row[0]).sort()).toEqual(codes.map((code) => `\`${code}\``).sort())
  })

  test.each(codes)('%s stands with its status, its text, when it happens and what to do', (code) => {
    const { status, error } = catalogue[code]
    const [, documentedStatus, documentedError, when, remedy] = rowOf.get(code) ?? []
    expect([documentedStatus, documentedError]).toEqual([String(status), error])
    expect(when?.length).toBeGreaterThan(0)
    expect(remedy?.length).toBeGreaterThan(0)
  })

  test.each(codes)('%s is marked "retry" exactly when it is', (code) => {
    expect(rowOf.get(code)?.[3]?.startsWith('*retry.*')).toBe(new DualstoreError(code, '').retryable)
  })
})

describe('an error', () => {
  test('takes status and short text from its code, and keeps message, details, extra and cause', () => {
    const cause = new Error('below')
    const details = [{ field: 'f', message: 'm' }]
    const error = new DualstoreError('WAIT_TIMEOUT', 'too slow', { details, extra: { position: 7 }, cause })
    expect(error).toBeInstanceOf(Error)
    expect(error).toMatchObject({
      code: 'WAIT_TIMEOUT',
      status: 504,
      error: 'Timed out waiting',
      message: 'too slow',
    })
    expect(error).toMatchObject({ details, extra: { position: 7 }, cause, retryable: true })
  })

  test('may carry a text that legacy clients compare instead of its own', () => {
    const error = new DualstoreError('NOT_FOUND', 'no such task', { error: 'Agent task not found' })
    expect(error).toMatchObject({ error: 'Agent task not found', status: 404, retryable: false })
  })

  test('of a bad input names its fields', () => {
    expect(invalid('query.limit', 'must be positive')).toMatchObject({
      code: 'INVALID_REQUEST',
      message: 'query.limit must be positive',
      details: [{ field: 'query.limit', message: 'must be positive' }],
    })
    const faults = [
      { field: 'a', message: 'is wrong' },
      { field: 'b', message: 'is missing' },
    ]
    expect(invalidAll(faults, 'INVALID_FILTER')).toMatchObject({
      code: 'INVALID_FILTER',
      message: 'a is wrong; b is missing',
      details: faults,
    })
  })
})
