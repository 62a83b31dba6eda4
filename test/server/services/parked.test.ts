import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { CHANGES_CHANNEL } from '../../../src/server/changes/hints.js'
import type { Pool } from '../../../src/server/db/pool.js'
import { MIRROR_FOLLOWER } from '../../../src/server/followers/mirror.js'
import type { Mirror, MirrorChange } from '../../../src/server/mirror/contract.js'
import { createCollectionService, ensureShipped } from '../../../src/server/services/collections.js'
import { localAccess } from '../../../src/server/services/principal.js'
import { createRegistry } from '../../../src/server/services/registry.js'
import { forgetIdempotencyKeys } from '../../../src/server/store/documents.js'
import { parkedAmong } from '../../../src/server/store/parked.js'
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
  testMirror,
  until,
  updateMessages,
} from '../../support/follower.js'
import { mirrorKinds } from '../../support/server.js'

const mongo = await serverOfFile()

/** The real mirror, which refuses documents whose text is "poison" while it is told to. */
function choosy(mirror: Mirror): { mirror: Mirror; refuse: boolean; onApply: () => Promise<void> } {
  const made = {
    refuse: true,
    onApply: async () => {},
    mirror: {
      ...mirror,
      kind: mirror.kind,
      async apply(changes: readonly MirrorChange[]) {
        await made.onApply()
        const bad = changes.filter(({ item }) => made.refuse && item?.content === 'poison')
        const rejections = await mirror.apply(changes.filter((change) => !bad.includes(change)))
        return [...rejections, ...bad.map((change) => ({ change, reason: 'poison' }))]
      },
    },
  }
  return made
}

describe.each(mirrorKinds.filter((kind) => kind === 'embedded' || mongo !== undefined))(
  '%s mirror',
  (kind) => {
    let database: TestDatabase
    let pool: Pool
    let real: Mirror
    let store: ReturnType<typeof choosy>
    let follower: TestFollower
    let auditor: Auditor
    const key = { collection: 'session_messages', id: 'bad' }

    beforeEach(async () => {
      database = await createDatabase()
      pool = database.pool
      await ensureShipped(pool)
      real = await testMirror(kind, mongo?.uri)
      store = choosy(real)
      follower = await testFollower(pool, store.mirror)
      auditor = testAuditor(pool, store.mirror, follower.hints)
      follower.follower.run()
      await insertMessages(pool, ['bad', 'good'])
      await caughtUp(pool)
      await updateMessages(pool, ['bad'], 'poison')
      await caughtUp(pool)
    })
    afterEach(async () => {
      await auditor.stop()
      await follower.follower.stop()
      await database.close()
    })
    const list = () =>
      auditor.parked.list({ collection: undefined, after: { collection: '', id: '' }, limit: 10 })

    test('is listed and shown with the reason, both sides and where they differ', async () => {
      expect(await list()).toEqual([
        {
          ...key,
          seq: 3,
          reason: 'poison',
          attempts: 1,
          retrying: false,
          parked_at: expect.any(Date),
        },
      ])
      expect(await auditor.parked.show(key)).toMatchObject({
        document: { version: 2, item: { id: 'bad', content: 'poison' } },
        mirrored: { _id: 'bad', text: 'hello', dualstore: { seq: 1, version: 1 } },
        differences: [
          { path: 'text', ours: '"poison"', theirs: '"hello"' },
          { path: 'dualstore.version', ours: '2', theirs: '1' },
        ],
      })
      await expect(auditor.parked.show({ ...key, id: 'good' })).rejects.toMatchObject({ code: 'NOT_FOUND' })
    })

    test('a verification tells it as parked, not as different', async () => {
      const { result, findings } = await auditor.audit('verify')
      expect(result).toMatchObject({ agree: false, parked: 1, different: 0 })
      expect(findings).toEqual([expect.objectContaining({ ...key, kind: 'parked', reason: 'poison' })])
      expect(result.not_checked).toEqual([expect.stringMatching(/parked/)])
    })

    test('a retry that is refused again keeps it parked', async () => {
      expect(await auditor.parked.retry(key)).toEqual({ outcome: 'parked', reason: 'poison' })
      expect(await list()).toMatchObject([{ attempts: 2, retrying: false, seq: 3 }])
    })

    test('a retry applies the document as it is now, and its changes flow again', async () => {
      store.refuse = false
      await updateMessages(pool, ['bad'], 'waits behind it')
      await caughtUp(pool)
      expect((await real.get(messages, 'bad'))?.item.content).toBe('hello')
      expect(await auditor.parked.retry(key)).toEqual({ outcome: 'applied' })
      expect((await real.get(messages, 'bad'))?.item.content).toBe('waits behind it')
      expect(await list()).toEqual([])
      await updateMessages(pool, ['bad'], 'flows')
      await caughtUp(pool)
      await expectEqual(pool, real)
    })

    test('a retry of a document that is deleted deletes it from the mirror', async () => {
      await deleteMessages(pool, ['bad'])
      await caughtUp(pool)
      expect(await real.get(messages, 'bad')).toBeDefined()
      expect(await auditor.parked.retry(key)).toEqual({ outcome: 'applied' })
      expect(await real.get(messages, 'bad')).toBeUndefined()
    })

    test('changes that come while it is retried are not lost', async () => {
      store.refuse = false
      let writing = true
      const writer = (async () => {
        for (let round = 0; writing; round++) {
          await updateMessages(pool, ['bad'], `round ${round}`)
          follower.hints.tell(CHANGES_CHANNEL)
        }
      })()
      await auditor.parked.retry(key)
      writing = false
      await writer
      await caughtUp(pool)
      await expectEqual(pool, real)
      expect(await list()).toEqual([])
    })

    test('a retry that is cut off leaves it in the list, and its changes flow', async () => {
      store.onApply = async () => {
        throw new Error('cut off')
      }
      await expect(auditor.parked.retry(key)).rejects.toThrow('cut off')
      store.onApply = async () => {}
      expect(await list()).toMatchObject([{ retrying: true }])
      expect(await parkedAmong(pool, MIRROR_FOLLOWER, [key])).toEqual([])
      store.refuse = false
      expect(await auditor.parked.retry(key)).toEqual({ outcome: 'applied' })
      await expectEqual(pool, real)
    })

    test('a skip leaves the mirror as it is until the next change, through a restart too', async () => {
      await auditor.parked.skip(key)
      expect(await list()).toEqual([])
      await follower.follower.stop()
      follower = await testFollower(pool, store.mirror)
      follower.follower.run()
      expect((await real.get(messages, 'bad'))?.item.content).toBe('hello')
      const { findings } = await auditor.audit('verify')
      expect(findings).toEqual([expect.objectContaining({ ...key, kind: 'different' })])
      await updateMessages(pool, ['bad'], 'better')
      await caughtUp(pool)
      await expectEqual(pool, real)
      await expect(auditor.parked.skip(key)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    })

    test('a repair retries it', async () => {
      expect((await auditor.audit('repair', { apply: true })).findings).toEqual([
        expect.objectContaining({ ...key, kind: 'parked', outcome: 'failed', reason: 'poison' }),
      ])
      store.refuse = false
      const { result, findings } = await auditor.audit('repair', { apply: true })
      expect(findings).toEqual([expect.objectContaining({ ...key, kind: 'parked', outcome: 'repaired' })])
      expect(result).toMatchObject({ agree: true, repaired: 1 })
      await expectEqual(pool, real)
    })

    test('it survives housekeeping and the drop of its collection, and is retried then', async () => {
      const registry = createRegistry(pool)
      const collections = createCollectionService({ pool, registry, hints: follower.hints })
      await collections.create(localAccess, {
        name: 'notes',
        schema: { type: 'object' },
        mirror: { text: 'content' },
      })
      const write = (content: string) =>
        pool.query(
          `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
           SELECT 'notes', 'n', item || jsonb_build_object('id', 'n', 'content', $1::text), 1, 1
           FROM dualstore.documents WHERE id = 'good'
           ON CONFLICT (collection, id) DO UPDATE SET item = EXCLUDED.item`,
          [content],
        )
      await write('fine')
      await caughtUp(pool)
      await write('poison')
      await caughtUp(pool)
      await forgetIdempotencyKeys(pool, 0)
      await collections.drop(localAccess, 'notes', 'notes')
      await caughtUp(pool)
      expect(await list()).toMatchObject([{ collection: 'notes', id: 'n' }, key])
      const definition = await registry.definition('notes')
      if (definition === undefined) throw new Error('a dropped collection keeps its definition')
      expect(await real.get(definition, 'n')).toBeDefined()
      expect(await auditor.parked.retry({ collection: 'notes', id: 'n' })).toEqual({ outcome: 'applied' })
      expect(await real.get(definition, 'n')).toBeUndefined()
      await until(async () => (await list()).length === 1)
    })
  },
)
