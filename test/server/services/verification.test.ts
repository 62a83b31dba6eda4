import { ObjectId } from 'mongodb'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { readHead } from '../../../src/server/changes/read.js'
import type { Pool } from '../../../src/server/db/pool.js'
import { ensureShipped } from '../../../src/server/services/collections.js'
import { createForeignService } from '../../../src/server/services/foreign.js'
import { createRegistry } from '../../../src/server/services/registry.js'
import { type Auditor, testAuditor } from '../../support/audit.js'
import { createDatabase, type TestDatabase } from '../../support/database.js'
import { serverOfFile } from '../../support/file-mongo.js'
import {
  caughtUp,
  deleteMessages,
  expectEqual,
  insertMessages,
  messages,
  type TestFollower,
  testFollower,
  updateMessages,
} from '../../support/follower.js'
import { type PlantableMirror, plantableMirror } from '../../support/plant.js'
import { mirrorKinds } from '../../support/server.js'

const mongo = await serverOfFile()

const numbered = (count: number, name = 'm') =>
  Array.from({ length: count }, (_, index) => `${name}${String(index).padStart(4, '0')}`)

describe.each(mirrorKinds.filter((kind) => kind === 'embedded' || mongo !== undefined))(
  '%s mirror',
  (kind) => {
    let database: TestDatabase
    let pool: Pool
    let store: PlantableMirror
    let follower: TestFollower
    let auditor: Auditor

    beforeEach(async () => {
      database = await createDatabase()
      pool = database.pool
      await ensureShipped(pool)
      store = await plantableMirror(kind, mongo?.uri)
      follower = await testFollower(pool, store.mirror)
      auditor = testAuditor(pool, store.mirror, follower.hints, { patienceMs: 2000, chunkSize: 100 })
      follower.follower.run()
    })
    afterEach(async () => {
      await auditor.stop()
      await follower.follower.stop()
      await database.close()
    })

    /** Fills the mirror, then stops what keeps it right. */
    const filled = async (ids: readonly string[]) => {
      await insertMessages(pool, ids)
      await caughtUp(pool)
      await follower.follower.stop()
    }

    test('stores that hold the same agree, over many chunks', async () => {
      await insertMessages(pool, numbered(150))
      await updateMessages(pool, numbered(40), 'changed')
      await deleteMessages(pool, numbered(30))
      await caughtUp(pool)
      const { result, findings } = await auditor.audit('verify')
      expect(findings).toEqual([])
      expect(result).toMatchObject({ agree: true, documents: 120, differing_chunks: 0, not_checked: [] })
      expect(result.collections.session_messages).toMatchObject({ documents: 120, chunks: 2 })
    })

    test('every kind of difference is named, with its fields, and repaired without touching anything else', async () => {
      await filled(numbered(120))
      await updateMessages(pool, ['m0050'], 'newer')
      const before = await store.plant(messages, async (raws) => {
        const all = await raws.read()
        const one = (id: string) => structuredClone(all.get(id)) as NonNullable<ReturnType<typeof all.get>>
        const changed = one('m0001')
        changed.text = 'forged'
        const typed = one('m0002')
        typed.timestamp = kind === 'mongodb' ? new Date(typed.timestamp) : Date.parse(typed.timestamp)
        const older = one('m0003')
        older.dualstore = { ...older.dualstore, version: 0, seq: 0 }
        const newer = one('m0004')
        newer.text = 'from a future that never was'
        newer.dualstore = { ...newer.dualstore, version: 99, seq: 1e12 }
        const stuck = one('m0005')
        stuck.dualstore = { ...stuck.dualstore, seq: Number.MAX_SAFE_INTEGER }
        const ahead = one('m0006')
        ahead.dualstore = { ...ahead.dualstore, seq: 'seven' }
        const squatter = { _id: 'm0007', text: "another program's" }
        const extra = { ...one('m0008'), _id: 'x1', id: 'x1' }
        const extraAhead = { ...extra, _id: 'x2', id: 'x2', dualstore: { seq: 1e12, version: 1 } }
        const foreign = { _id: 'someone', text: 'else' }
        await raws.put([changed, typed, older, newer, stuck, ahead, squatter, extra, extraAhead, foreign])
        if (kind === 'mongodb') await raws.put([{ _id: new ObjectId(), text: 'legacy' }])
        await raws.remove(['m0009', 'm0119'])
        return raws.read()
      })
      const wrong = {
        m0001: { kind: 'different', differences: [{ path: 'text', ours: '"hello"', theirs: '"forged"' }] },
        m0002: { kind: 'different', differences: [expect.objectContaining({ path: 'timestamp' })] },
        m0003: {
          kind: 'different',
          differences: [{ path: 'dualstore.version', ours: '1', theirs: '0' }],
        },
        m0004: { kind: 'different' },
        m0005: { kind: 'different', differences: [expect.objectContaining({ path: 'dualstore.seq' })] },
        m0006: { kind: 'different', differences: [expect.objectContaining({ path: 'dualstore.seq' })] },
        m0007: { kind: 'different' },
        m0009: { kind: 'missing' },
        m0119: { kind: 'missing' },
        x1: { kind: 'extra' },
        x2: { kind: 'extra' },
      }
      const foreign = kind === 'mongodb' ? 2 : 1
      const verified = await auditor.audit('verify', { collections: ['session_messages'] })
      expect(verified.result).toMatchObject({
        agree: false,
        documents: 120,
        missing: 2,
        extra: 2,
        different: 7,
        foreign,
        // Nobody follows: what was changed last has not come to the mirror, and is no difference.
        unsettled: 1,
        differing_chunks: 2,
      })
      const named = (kinds: readonly string[]) => {
        const found = verified.findings.filter((finding) => kinds.includes(finding.kind))
        return Object.fromEntries(found.map((finding) => [finding.id, finding]))
      }
      const differing = named(['missing', 'extra', 'different'])
      expect(differing).toMatchObject(wrong)
      expect(Object.keys(differing).sort()).toEqual(Object.keys(wrong).sort())
      expect(Object.keys(named(['unsettled']))).toEqual(['m0050'])
      expect(Object.keys(named(['foreign']))).toContain('someone')

      const dry = await auditor.audit('repair')
      expect(dry.result).toMatchObject({ agree: false, repaired: 0 })
      expect(await store.plant(messages, (raws) => raws.read())).toEqual(before)

      const repaired = await auditor.audit('repair', { apply: true })
      expect(repaired.result).toMatchObject({ agree: false, repaired: 11, failed: 0, unsettled: 1, foreign })
      const mended = repaired.findings.filter(({ outcome }) => outcome === 'repaired')
      expect(mended.map(({ id }) => id).sort()).toEqual(Object.keys(wrong).sort())

      const after = await store.plant(messages, (raws) => raws.read())
      const untouched = (all: typeof after) => [...all].filter(([id]) => !(id in wrong))
      expect(untouched(after)).toEqual(untouched(before))
      expect(after.has('x1') || after.has('x2')).toBe(false)

      // What was stuck behind a position that never was takes later changes again.
      follower = await testFollower(pool, store.mirror)
      follower.follower.run()
      await updateMessages(pool, ['m0004', 'm0005', 'm0009'], 'later')
      await caughtUp(pool)
      await expectEqual(pool, store.mirror)
      expect((await auditor.audit('verify')).result).toMatchObject({ agree: true, foreign })
    })

    test('documents that are written all the time are settled, and none is called different', {
      timeout: 90_000,
    }, async () => {
      await insertMessages(pool, numbered(300))
      let writing = true
      const writer = (async () => {
        for (let round = 0; writing; round++) {
          await updateMessages(
            pool,
            numbered(300).filter((_, index) => index % 10 === round % 10),
            `${round}`,
          )
          await insertMessages(pool, [`n${round}`])
          if (round > 3) await deleteMessages(pool, [`n${round - 3}`])
          follower.hints.tell('dualstore_changes')
          // As fast as the mirror takes it, and a little ahead.
          if (round % 5 === 0) await follower.progress.reached((await readHead(pool)).position, 5000)
        }
      })()
      try {
        for (let round = 0; round < 3; round++) {
          const { result, findings } = await auditor.audit('verify')
          // On a slow machine a document may be on its way all the time; that is said, and is no difference.
          expect(findings.filter(({ kind }) => kind !== 'unsettled')).toEqual([])
          expect(result.documents).toBeGreaterThan(299)
        }
      } finally {
        writing = false
        await writer
      }
      await caughtUp(pool)
      expect((await auditor.audit('verify')).result).toMatchObject({ agree: true })
    })

    test('a sample looks at some key ranges and says what it did not look at', async () => {
      await insertMessages(pool, numbered(150))
      await caughtUp(pool)
      const { result } = await auditor.audit('verify', { collections: ['session_messages'], sample: 0.5 })
      expect(result.documents + result.skipped).toBe(150)
      expect(result.not_checked.join('\n')).toMatch(/sample of 0.5/)
      expect(result.not_checked.join('\n')).toMatch(/agent_tasks, opencode_events: not asked for/)
    })

    test('foreign documents are deleted only while they are as they were listed', async () => {
      await filled(numbered(3))
      const foreign = createForeignService({ pool, registry: createRegistry(pool), mirror: store.mirror })
      const others = [
        { _id: 'x1', text: 'one', n: 1.5, none: null, list: [{ a: 1 }] },
        { _id: 'x2', text: 'two' },
        { _id: 'm0001', text: 'in the place of one of ours' },
      ]
      await store.plant(messages, (raws) => raws.put(others))
      let text = ''
      for await (const lines of await foreign.list('session_messages')) text += lines
      const lines = text.split('\n').filter(Boolean)
      expect(lines.map((line) => JSON.parse(line)._id)).toEqual(['x1', 'x2'])
      await store.plant(messages, (raws) => raws.put([{ _id: 'x2', text: 'changed' }]))
      expect(await foreign.remove('session_messages', lines)).toBe(1)
      const left = await store.plant(messages, (raws) => raws.read())
      expect([...left.keys()].sort()).toEqual(['m0000', 'm0001', 'm0002', 'x2'])
    })
  },
)
