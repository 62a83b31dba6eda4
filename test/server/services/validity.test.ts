import { describe, expect, test } from 'vitest'
import { createValidity } from '../../../src/server/services/streams/validity.js'
import { principalOf } from '../../support/principals.js'

/** Keys that the test revokes; `changed` tells of it, as the service of keys does. Memory may have forgotten some. */
function keys() {
  const revoked = new Set<string>()
  const forgotten = new Set<string>()
  const listeners = new Set<() => void>()
  let time = 1000
  const validity = createValidity({
    isValid: ({ keyId }) => keyId === undefined || !(revoked.has(keyId) || forgotten.has(keyId)),
    confirm: async ({ keyId }) => keyId === undefined || !revoked.has(keyId),
    onAccessChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    now: () => time,
  })
  return {
    validity,
    listeners,
    revoke: (id: string) => revoked.add(id),
    forget: (id: string) => forgotten.add(id),
    changed: () => {
      for (const listener of listeners) listener()
    },
    pass: (ms: number) => {
      time += ms
    },
  }
}
const of = (keyId: string, expiresAt?: number) =>
  principalOf({ keyId, ...(expiresAt !== undefined && { expiresAt }) })

describe('what is watched ends', () => {
  test('at once when its key is told to be revoked, and once; others go on, what memory has forgotten too', async () => {
    const { validity, revoke, forget, changed } = keys()
    const ended: string[] = []
    for (const id of ['a', 'b', 'a', 'c']) validity.watch(of(id), () => ended.push(id))
    changed()
    expect(ended).toEqual([])
    forget('c')
    revoke('a')
    changed()
    changed()
    await new Promise(setImmediate)
    expect(ended).toEqual(['a', 'a'])
    validity.close()
  })

  test('within a second when nobody tells, and when its time is over', async () => {
    const { validity, revoke, pass } = keys()
    const began = performance.now()
    const revoked = new Promise<void>((resolve) => validity.watch(of('a'), resolve))
    const expired = new Promise<void>((resolve) => validity.watch(of('b', 2000), resolve))
    revoke('a')
    await revoked
    pass(1000)
    await expired
    expect(performance.now() - began).toBeLessThan(3000)
    validity.close()
  })

  test('not when it is no longer watched', () => {
    const { validity, revoke, changed, listeners } = keys()
    const unwatch = validity.watch(of('a'), () => expect.unreachable())
    unwatch()
    revoke('a')
    changed()
    validity.watch(of('a'), () => expect.unreachable())
    validity.close()
    expect(listeners.size).toBe(0)
  })
})

test('what has ended is refused', async () => {
  const { validity, revoke, pass } = keys()
  await validity.require(of('a', 2000))
  await validity.require(principalOf({}))
  revoke('b')
  await expect(validity.require(of('b'))).rejects.toThrow('revoked')
  pass(1000)
  await expect(validity.require(of('a', 2000))).rejects.toThrow('expired')
  validity.close()
})
