import { describe, expect, test } from 'vitest'
import { loadConfig, masked, type SettingKey } from '../../../src/server/config/index.js'
import type { DualstoreError } from '../../../src/server/errors.js'

const shown = (key: SettingKey, value: string) => {
  const { effective } = loadConfig({ given: { [key]: value } })
  return masked(effective.find((setting) => setting.key === key)!)
}

describe('of a connection string no password is shown', () => {
  test.each([
    ['postgresql://u:hidden@h:5432/d', 'postgresql://u:***@h:5432/d'],
    ['postgresql://u:hid@den@h/d', 'postgresql://u:***@h/d'],
    ['postgresql://u:hid/den:@h/d', 'postgresql://u:***@h/d'],
    ['postgresql://u:hid?den=hidden#hidden@h/d', 'postgresql://u:***@h/d'],
    ['postgresql://h/d?user=u&password=hidden', 'postgresql://h/d?user=***&password=***'],
    [
      'postgresql://u:hidden@h/d?sslmode=require&sslpassword=hidden',
      'postgresql://u:***@h/d?sslmode=require&sslpassword=***',
    ],
    ['postgresql://h:5432/d', 'postgresql://h:5432/d'],
  ])('%s', (value, expected) => {
    expect(shown('databaseUrl', value)).toBe(expected)
  })

  test.each([
    ['mongodb://u:hidden@h1:1,h2:2/d?replicaSet=r', 'mongodb://u:***@h1:1,h2:2/d?replicaSet=r'],
    ['mongodb+srv://u:hidden@h/?w=majority', 'mongodb+srv://u:***@h/?w=majority'],
    [
      'mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:hidden',
      'mongodb://h/?authMechanismProperties=***',
    ],
    ['mongodb://h1:1,h2:2/d', 'mongodb://h1:1,h2:2/d'],
  ])('%s', (value, expected) => {
    expect(shown('mongodbUri', value)).toBe(expected)
  })

  test('not of the legacy vector store either', () => {
    expect(shown('chromaUrl', 'http://u:hidden@h')).toBe('http://u:***@h')
  })
})

test.each(['hidden', 'a://hidden', 'a://u:hidden@h', '0'])('a token, %j, is not shown at all', (token) => {
  expect(shown('authBearerToken', token)).toBe('***')
})

test('an unset secret is shown as unset, and what is no secret as it is', () => {
  const { effective } = loadConfig({ given: { port: 1 } })
  const of = (key: SettingKey) => masked(effective.find((setting) => setting.key === key)!)
  expect([of('databaseUrl'), of('authBearerToken'), of('port')]).toEqual([undefined, undefined, 1])
})

test('a wrong secret is not shown by the error that refuses it', () => {
  const refused = () => loadConfig({ env: { DATABASE_URL: 'hidden', MONGODB_URI: 'hidden' } })
  expect(refused).toThrow(/DATABASE_URL is the given value, but must be/)
  try {
    refused()
  } catch (error) {
    expect(JSON.stringify([(error as Error).message, (error as DualstoreError).details])).not.toContain(
      'hidden',
    )
  }
})
