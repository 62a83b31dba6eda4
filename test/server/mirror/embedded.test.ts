import { cp, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { MirrorChange } from '../../../src/server/mirror/contract.js'
import { openEmbeddedMirror } from '../../../src/server/mirror/embedded.js'
import type { CollectionDefinition } from '../../../src/server/schemas/collection.js'
import { shippedCollections } from '../../../src/server/schemas/shipped-collections.js'

const messages = shippedCollections[0] as CollectionDefinition

function put(id: string, seq: number): MirrorChange {
  const times = { created_at: '2026-01-01T00:00:00.000Z', updated_at: '2026-01-01T00:00:00.000Z' }
  return {
    definition: messages,
    id,
    seq,
    version: 1,
    item: { session_id: 's', role: 'user', content: 'c', id, ...times },
  }
}

describe('the embedded mirror', () => {
  let home: string
  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), 'dualstore-embedded-'))
  })
  afterEach(() => rm(home, { recursive: true, force: true }))

  it('touches no file before it is used', async () => {
    const mirror = openEmbeddedMirror({ directory: join(home, 'mirror') })
    await mirror.close()
    expect(await readdir(home)).toEqual([])
  })

  it('says that another process has it open, and works once that one is gone', async () => {
    const directory = join(home, 'mirror')
    const holder = openEmbeddedMirror({ directory })
    await holder.apply([put('a', 1)])
    const other = openEmbeddedMirror({ directory })
    await expect(other.ping()).rejects.toMatchObject({
      code: 'MIRROR_UNAVAILABLE',
      message: expect.stringContaining('in use by another process'),
    })
    await expect(other.apply([put('b', 2)])).rejects.toMatchObject({ code: 'MIRROR_UNAVAILABLE' })
    await holder.close()
    expect(await other.apply([put('b', 2)])).toEqual([])
    expect(await other.count(messages)).toBe(2)
    await other.close()
  })

  it('says MIRROR_UNAVAILABLE when its directory cannot be used', async () => {
    const file = join(home, 'file')
    await writeFile(file, '')
    const mirror = openEmbeddedMirror({ directory: join(file, 'mirror') })
    await expect(mirror.ping()).rejects.toMatchObject({
      code: 'MIRROR_UNAVAILABLE',
      cause: expect.any(Error),
    })
    await mirror.close()
  })

  it('finishes the writes under way before it closes', async () => {
    const mirror = openEmbeddedMirror({ directory: home })
    await mirror.ping()
    const applying = mirror.apply(Array.from({ length: 2000 }, (_, n) => put(`m${n}`, n + 1)))
    await Promise.resolve()
    const closing = mirror.close()
    expect(await applying).toEqual([])
    await closing
    const again = openEmbeddedMirror({ directory: home })
    expect(await again.count(messages)).toBe(2000)
    await again.close()
  })

  it('has every acknowledged write in its files, as a killed process would leave them', async () => {
    const directory = join(home, 'mirror')
    const mirror = openEmbeddedMirror({ directory })
    for (let seq = 1; seq <= 50; seq++) {
      await mirror.apply([put(`m${seq}`, seq)])
      if (seq % 10 !== 0) continue
      const left = join(home, `left-after-${seq}`)
      await cp(directory, left, { recursive: true })
      const successor = openEmbeddedMirror({ directory: left })
      expect(await successor.count(messages)).toBe(seq)
      await successor.close()
    }
    await mirror.close()
  })
})
