import { expect, test } from 'vitest'
import { covers, hasRole, unrestricted } from '../../../src/server/services/principal.js'

const principal = (...read: string[]) => ({ ...unrestricted('local'), scopes: { read, write: [] } })

test.each([
  ['*', 'notes', true],
  ['notes', 'notes', true],
  ['notes', 'notes2', false],
  ['team_*', 'team_a', true],
  ['team_*', 'team', false],
  ['*_log', 'a_log', true],
  ['*_log', 'a_log_b', false],
  ['a*b*c', 'aXbYc', true],
  ['a*b*c', 'abc', true],
  ['a*b*c', 'ac', false],
  ['ab*ba', 'aba', false],
])('the scope "%s" on "%s": %s', (pattern, name, covered) => {
  expect(covers(principal(pattern), 'read', name)).toBe(covered)
  expect(covers(principal(pattern), 'write', name)).toBe(false)
})

test('a role may do what lesser roles may', () => {
  const writer = { ...unrestricted('local'), role: 'writer' as const }
  expect(hasRole(writer, 'reader')).toBe(true)
  expect(hasRole(writer, 'writer')).toBe(true)
  expect(hasRole(writer, 'admin')).toBe(false)
})
