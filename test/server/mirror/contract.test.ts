import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Mirror, MirrorChange, MirroredDocument } from '../../../src/server/mirror/contract.js'
import { openEmbeddedMirror } from '../../../src/server/mirror/embedded.js'
import { toLegacy } from '../../../src/server/mirror/legacy-shape.js'
import { openMongoMirror } from '../../../src/server/mirror/mongo.js'
import type { CollectionDefinition } from '../../../src/server/schemas/collection.js'
import type { Item, Json } from '../../../src/server/schemas/item.js'
import { shippedCollections } from '../../../src/server/schemas/shipped-collections.js'
import { customCollection, itemOf } from '../../support/items.js'
import { mongoIsAvailable, type TestMongo, testMongo } from '../../support/mongo.js'

const messages = shippedCollections[0] as CollectionDefinition

/** A store that can be opened more than once, and what removes it. */
interface Store {
  open(): Mirror
  remove(): Promise<void>
}

async function embeddedStore(): Promise<Store> {
  const directory = await mkdtemp(join(tmpdir(), 'dualstore-mirror-'))
  return {
    open: () => openEmbeddedMirror({ directory: join(directory, 'mirror') }),
    remove: () => rm(directory, { recursive: true, force: true }),
  }
}

async function mongoStore(): Promise<Store> {
  const mongo: TestMongo = await testMongo()
  return {
    // A slow machine must not look like a stuck server here: limits have tests of their own.
    open: () => openMongoMirror({ ...mongo, prefix: 'duck', timeoutMs: 20_000 }),
    remove: () => mongo.close(),
  }
}

const stores = [
  { kind: 'embedded' as const, make: embeddedStore, available: true },
  { kind: 'mongodb' as const, make: mongoStore, available: await mongoIsAvailable() },
]

let lastCollection = 0
/** A definition whose collection no other test uses. */
function fresh(definition: CollectionDefinition): CollectionDefinition {
  const collection = `${definition.mirror.collection}_${++lastCollection}`
  return { ...definition, mirror: { ...definition.mirror, collection } }
}

function itemWith(id: string, fields: { [field: string]: Json } = {}): Item {
  const created = new Date(Date.UTC(2026, 0, 1) + Number(id.replace(/\D/g, '') || 0)).toISOString()
  return {
    session_id: 's',
    role: 'user',
    content: `text of ${id}`,
    ...fields,
    id,
    created_at: created,
    updated_at: created,
  }
}

const put = (definition: CollectionDefinition, seq: number, item: Item): MirrorChange => {
  return { definition, id: item.id, seq, version: seq, item }
}
const del = (definition: CollectionDefinition, seq: number, id: string): MirrorChange => {
  return { definition, id, seq, version: seq, item: null }
}

async function everything(documents: AsyncIterable<MirroredDocument>): Promise<MirroredDocument[]> {
  const all: MirroredDocument[] = []
  for await (const document of documents) all.push(document)
  return all
}

describe.each(stores)('a mirror ($kind)', ({ kind, make, available }) => {
  describe.runIf(available)('when it can be reached', () => {
    let store: Store
    let mirror: Mirror
    let definition: CollectionDefinition

    beforeAll(async () => {
      store = await make()
      mirror = store.open()
    })
    afterAll(async () => {
      await mirror.close()
      await store.remove()
    })
    beforeEach(() => {
      definition = fresh(messages)
    })

    it('tells its kind and answers a ping', async () => {
      expect(mirror.kind).toBe(kind)
      await expect(mirror.ping()).resolves.toBeUndefined()
    })

    it('knows nothing of a collection that nobody has written to', async () => {
      expect(await mirror.get(definition, 'msg_1')).toBeUndefined()
      expect(await everything(mirror.scan(definition))).toEqual([])
      expect(await mirror.count(definition)).toBe(0)
      expect(await mirror.recent(definition, 10)).toEqual([])
      await mirror.drop(definition)
    })

    it('gives back what was applied, with position and version', async () => {
      const item = itemWith('msg_1', { metadata: { model: 'm' } })
      expect(await mirror.apply([{ definition, id: 'msg_1', seq: 9, version: 2, item }])).toEqual([])
      expect(await mirror.get(definition, 'msg_1')).toEqual({ item, seq: 9, version: 2 })
    })

    it('is prepared twice without harm', async () => {
      await mirror.prepare(definition)
      await mirror.apply([put(definition, 1, itemWith('msg_1'))])
      await mirror.prepare(definition)
      expect(await mirror.count(definition)).toBe(1)
    })

    it('applies changes of several collections in one call and keeps them apart', async () => {
      const other = fresh(customCollection)
      await mirror.apply([
        put(definition, 1, itemWith('same')),
        put(other, 2, itemWith('same', { body: 'other' })),
        put(other, 3, itemWith('more')),
      ])
      expect(await mirror.count(definition)).toBe(1)
      expect((await everything(mirror.scan(other))).map(({ item }) => item.id)).toEqual(['more', 'same'])
      expect((await mirror.get(other, 'same'))?.item.body).toBe('other')
    })

    it('keeps collections apart whose names begin alike', async () => {
      const longer = {
        ...definition,
        mirror: { ...definition.mirror, collection: `${definition.mirror.collection}.x` },
      }
      await mirror.apply([put(definition, 1, itemWith('a')), put(longer, 2, itemWith('b'))])
      await mirror.drop(definition)
      expect(await mirror.count(definition)).toBe(0)
      expect(await mirror.count(longer)).toBe(1)
    })

    it('leaves a document alone that stands at the same position or a later one', async () => {
      await mirror.apply([put(definition, 5, itemWith('a', { content: 'five' }))])
      expect(await mirror.apply([put(definition, 4, itemWith('a', { content: 'four' }))])).toEqual([])
      expect(await mirror.apply([put(definition, 5, itemWith('a', { content: 'again' }))])).toEqual([])
      expect(await mirror.apply([del(definition, 4, 'a')])).toEqual([])
      expect(await mirror.get(definition, 'a')).toMatchObject({ seq: 5, item: { content: 'five' } })
    })

    it('deletes a document, and deleting it again or one it never had is harmless', async () => {
      await mirror.apply([put(definition, 1, itemWith('a')), put(definition, 2, itemWith('b'))])
      await mirror.apply([del(definition, 3, 'a')])
      expect(await mirror.apply([del(definition, 3, 'a'), del(definition, 4, 'never')])).toEqual([])
      expect((await everything(mirror.scan(definition))).map(({ item }) => item.id)).toEqual(['b'])
    })

    it('scans by code points, which is not the order of UTF-16, and from behind a given id', async () => {
      const ids = ['a', 'B', 'ab', 'é', '漢', '\uffee', '😀', 'a b', '~']
      await mirror.apply(ids.map((id, index) => put(definition, index + 1, itemWith(id))))
      const ordered = [...ids].sort((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other)))
      expect((await everything(mirror.scan(definition))).map(({ item }) => item.id)).toEqual(ordered)
      expect((await everything(mirror.scan(definition, 'ab'))).map(({ item }) => item.id)).toEqual(
        ordered.slice(ordered.indexOf('ab') + 1),
      )
      expect((await everything(mirror.scan(definition, 'aa'))).map(({ item }) => item.id)[0]).toBe('ab')
    })

    it('scans more documents than one batch holds, and can be left in the middle', async () => {
      const all = Array.from({ length: 1203 }, (_, n) => put(definition, n + 1, itemWith(`m${n + 10_000}`)))
      expect(await mirror.apply(all)).toEqual([])
      expect((await everything(mirror.scan(definition))).map(({ seq }) => seq)).toEqual(
        all.map(({ seq }) => seq),
      )
      expect(await mirror.count(definition)).toBe(1203)
      for await (const { seq } of mirror.scan(definition)) if (seq === 700) break
      await mirror.drop(definition)
      expect(await mirror.count(definition)).toBe(0)
    })

    it('gives the newest documents raw and newest first', async () => {
      const changes = [30, 10, 50, 20, 40].map((n) => put(definition, n, itemWith(`m${n}`)))
      await mirror.apply(changes)
      const newest = [50, 40, 30].map((n) =>
        toLegacy(definition, { item: itemWith(`m${n}`), seq: n, version: n }),
      )
      expect(await mirror.recent(definition, 3)).toEqual(newest)
      expect(await mirror.recent(definition, 100)).toHaveLength(5)
    })

    it('rejects a document that can never be written, with the reason, and takes the others', async () => {
      let abyss: Json = 0
      for (let level = 0; level < 200_000; level++) abyss = [abyss]
      const poison = put(definition, 2, itemWith('b', { metadata: { abyss } }))
      const rejections = await mirror.apply([
        put(definition, 1, itemWith('a')),
        poison,
        put(definition, 3, itemWith('c')),
      ])
      expect(rejections).toEqual([
        { change: poison, reason: 'the item nests too deep to be written as JSON text' },
      ])
      expect((await everything(mirror.scan(definition))).map(({ item }) => item.id)).toEqual(['a', 'c'])
    })

    it.each(Object.getOwnPropertyNames(Object.prototype))(
      'gives back an array under %s, which the driver leaves undecoded',
      async (name) => {
        const item = itemWith('a', { metadata: { [name]: [{}, { a: [] }] } })
        expect(await mirror.apply([put(definition, 1, item)])).toEqual([])
        expect(isDeepStrictEqual((await mirror.get(definition, 'a'))?.item, item)).toBe(true)
      },
    )

    it('gives back any item of any collection equal (I12)', async () => {
      const definitions = [...shippedCollections, customCollection].map(fresh)
      const items = definitions.map((one) => fc.array(itemOf(one), { minLength: 1, maxLength: 20 }))
      let lastSeq = 0
      const property = fc.asyncProperty(fc.tuple(...items), async (perCollection) => {
        const changes = perCollection.flatMap((some, index) =>
          some.map((item, n) => {
            const id = `${index}_${n}`
            return put(definitions[index] as CollectionDefinition, ++lastSeq, { ...item, id })
          }),
        )
        expect(await mirror.apply(changes)).toEqual([])
        for (const { definition: one, id, item } of changes) {
          // Vitest's own equality takes a field named `constructor` for the type of its object.
          expect(isDeepStrictEqual((await mirror.get(one, id))?.item, item)).toBe(true)
        }
      })
      await fc.assert(property, { numRuns: 15, endOnFailure: true })
    })
    const step = fc.record({
      id: fc.constantFrom('a', 'b', 'c', 'd'),
      seq: fc.integer({ min: 1, max: 12 }),
      deletes: fc.boolean(),
    })
    const history = fc.array(fc.uniqueArray(step, { selector: ({ id }) => id, minLength: 1 }), {
      maxLength: 12,
    })
    const changeOf = (
      one: CollectionDefinition,
      { id, seq, deletes }: { id: string; seq: number; deletes: boolean },
    ) => (deletes ? del(one, seq, id) : put(one, seq, itemWith(id, { content: `at ${seq}` })))
    const standing = async (one: CollectionDefinition) =>
      (await everything(mirror.scan(one))).map(({ item, seq }) => [item.id, seq, item.content])

    it('never moves a document back, whatever the order of positions', async () => {
      const property = fc.asyncProperty(history, async (calls) => {
        const one = fresh(messages)
        const oracle = new Map<string, number>()
        for (const call of calls) {
          expect(await mirror.apply(call.map((change) => changeOf(one, change)))).toEqual([])
          for (const { id, seq, deletes } of call) {
            if ((oracle.get(id) ?? 0) >= seq) continue
            if (deletes) oracle.delete(id)
            else oracle.set(id, seq)
          }
          const expected = [...oracle].sort().map(([id, seq]) => [id, seq, `at ${seq}`])
          expect(await standing(one)).toEqual(expected)
        }
      })
      await fc.assert(property, { numRuns: 25 })
    })

    it('ends the same when a log is followed with restarts from earlier positions', async () => {
      const log = fc.array(fc.record({ id: fc.constantFrom('a', 'b', 'c'), deletes: fc.boolean() }), {
        maxLength: 12,
      })
      const restarts = fc.array(fc.tuple(fc.nat(12), fc.nat(12)), { maxLength: 4 })
      const property = fc.asyncProperty(log, restarts, async (entries, crashes) => {
        const one = fresh(messages)
        const changes = entries.map((entry, index) => changeOf(one, { ...entry, seq: index + 1 }))
        let position = 0
        const follow = async (until: number) => {
          for (; position < until; position++) await mirror.apply(changes.slice(position, position + 1))
        }
        for (const [reached, stored] of crashes) {
          await follow(Math.min(reached, changes.length))
          position = Math.min(stored, position)
        }
        await follow(changes.length)
        const oracle = new Map<string, number>()
        for (const { id, seq, item } of changes) {
          if (item === null) oracle.delete(id)
          else oracle.set(id, seq)
        }
        expect(await standing(one)).toEqual([...oracle].sort().map(([id, seq]) => [id, seq, `at ${seq}`]))
      })
      await fc.assert(property, { numRuns: 20 })
    })

    it('takes overlapping calls and ends at the latest position of each document', async () => {
      const calls = Array.from({ length: 20 }, (_, n) =>
        ['a', 'b', 'c'].map((id) =>
          put(definition, ((n * 7) % 20) + 1, itemWith(id, { content: `at ${((n * 7) % 20) + 1}` })),
        ),
      )
      const rejections = await Promise.all(calls.map((call) => mirror.apply(call)))
      expect(rejections.flat()).toEqual([])
      expect(await standing(definition)).toEqual(['a', 'b', 'c'].map((id) => [id, 20, 'at 20']))
    })

    it('keeps everything when it is closed and opened again, and refuses work while closed', async () => {
      const item = itemWith('a')
      const first = kind === 'embedded' ? mirror : store.open()
      await first.apply([put(definition, 1, item)])
      await first.close()
      await first.close()
      await expect(first.get(definition, 'a')).rejects.toMatchObject({ code: 'MIRROR_UNAVAILABLE' })
      await expect(first.apply([])).rejects.toMatchObject({ code: 'MIRROR_UNAVAILABLE' })
      await expect(everything(first.scan(definition))).rejects.toMatchObject({ code: 'MIRROR_UNAVAILABLE' })
      await expect(first.ping()).rejects.toMatchObject({ code: 'MIRROR_UNAVAILABLE' })
      const second = store.open()
      if (kind === 'embedded') mirror = second
      expect(await second.get(definition, 'a')).toEqual({ item, seq: 1, version: 1 })
      if (kind !== 'embedded') await second.close()
    })
  })
})
