import { readHead } from '../../../src/server/changes/read.js'
import { loadConfig } from '../../../src/server/config/index.js'
import { type Context, openContext } from '../../../src/server/context.js'
import type { Pool } from '../../../src/server/db/pool.js'
import { both, everything, type Filter } from '../../../src/server/filter/ast.js'
import { parseFilter } from '../../../src/server/filter/parse.js'
import type { ListQuery } from '../../../src/server/schemas/wire.js'
import { localAccess } from '../../../src/server/services/principal.js'
import { selectionSql } from '../../../src/server/store/list.js'
import { Params } from '../../../src/server/store/params.js'
import { createDraw, type Draw } from './random.js'

export interface TotalsRun {
  seed: number
  databaseUrl: string
  /** Into the same database, past the program. */
  pool: Pool
  /** Answers to check. */
  answers: number
  readers: number
  writers: number
  onProgress?: (checked: number) => void
}

export interface TotalsReport {
  checked: number
  writes: number
  /** Answers during which the log moved, so that more than one state would have been right. */
  overtaken: number
  violations: string[]
}

const NAME = 'totals'
const SCHEMA = {
  type: 'object',
  properties: { session: { type: 'string' }, n: { type: 'number' }, label: { type: 'string' } },
}
const SESSIONS = ['s0', 's1', 's2']
const IDS = Array.from({ length: 60 }, (_, index) => `d${index}`)
const LATER = '2026-06-01T00:00:00.000Z'
/** What it takes to tell apart numbers that are the same double. */
const LONG = '0.30000000000000001'

/**
 * Two instances and psql write the same few documents, and every list of random selections is held against what a
 * history of all states, kept by triggers of its own, says was there at some moment between its request and its answer:
 * the total and the page, each by itself. Repeatable draws; the interleaving is PostgreSQL's.
 */
export async function totalsRun(run: TotalsRun): Promise<TotalsReport> {
  const { pool, seed } = run
  const { config } = loadConfig({ given: { databaseUrl: run.databaseUrl, dualWriteEnabled: false }, env: {} })
  const open = () => openContext(config, silent)
  const instances = [await open(), await open()]
  const report: TotalsReport = { checked: 0, writes: 0, overtaken: 0, violations: [] }
  try {
    await (instances[0] as Context).collections.create(localAccess, {
      name: NAME,
      schema: SCHEMA,
      indexes: [],
    })
    await keepHistory(pool)
    const done = () => report.checked >= run.answers || report.violations.length > 0
    const writer = async (draw: Draw) => {
      while (!done()) {
        await (draw.chance(0.3) ? writePast(pool, draw) : writeThrough(draw.from(instances), draw))
        report.writes++
        // Lists of a log that stands still are answered from what is kept.
        if (draw.chance(0.2)) await pool.query('SELECT pg_sleep($1)', [draw.below(30) / 1000])
      }
    }
    const reader = async (draw: Draw) => {
      while (!done()) {
        const { query, rows } = drawList(draw)
        const before = await headOf(pool)
        const access = { ...localAccess, principal: { ...localAccess.principal, rows } }
        const { texts, pagination } = await draw.from(instances).listing.list(access, NAME, query)
        const after = await headOf(pool)
        const states = await statesBetween(pool, { query, rows, before, after })
        if (states.length > 1) report.overtaken++
        const page = texts.join('\n')
        const fault = states.every(({ total }) => total !== pagination.total)
          ? `total ${pagination.total}, not ${states.map(({ total }) => total)}`
          : states.every((state) => state.page !== page)
            ? `page ${page}, not ${states.map((state) => state.page)}`
            : undefined
        if (fault !== undefined)
          report.violations.push(`${JSON.stringify({ query, rows, before, after })}: ${fault}`)
        if (++report.checked % 1000 === 0) run.onProgress?.(report.checked)
      }
    }
    const restarts = async (draw: Draw) => {
      while (!done()) {
        await pool.query('SELECT pg_sleep(0.5)')
        // Old parts of the log go, also those that an instance has not read yet.
        await pool.query('SELECT dualstore.cut_log()').catch(unlessDeadlock)
        await pool
          .query(
            `SELECT dualstore.drop_log_partition(name) FROM
               (SELECT name FROM dualstore.log_partitions() ORDER BY from_seq NULLS FIRST LIMIT 1) oldest`,
          )
          .catch(unlessDeadlock)
        if (draw.chance(0.2)) {
          const [old] = instances.splice(0, 1, await open())
          // Requests may be under way in it.
          await pool.query('SELECT pg_sleep(0.2)')
          await old?.close()
        }
      }
    }
    const workers = [
      ...Array.from({ length: run.writers }, (_, index) => writer(createDraw(seed + index))),
      ...Array.from({ length: run.readers }, (_, index) => reader(createDraw(seed + 1000 + index))),
      restarts(createDraw(seed + 2000)),
    ]
    await Promise.all(workers).catch((error) => {
      report.violations.push(String(error))
      throw error
    })
  } finally {
    await Promise.all(instances.map((instance) => instance.close()))
  }
  return report
}

const silent = { debug() {}, info() {}, warn() {}, error() {} }

/**
 * A trigger behind those of the log notes for every state of a document from which position on it stood and until when,
 * and the last position of each transaction: between two of those nobody could look.
 */
async function keepHistory(pool: Pool): Promise<void> {
  await pool.query(`
    CREATE TABLE public.history (
      collection text COLLATE "C", id text COLLATE "C", version bigint, item jsonb, created_at bigint, updated_at bigint,
      from_seq bigint, to_seq bigint
    );
    CREATE INDEX ON public.history (to_seq);
    CREATE INDEX ON public.history (id) WHERE to_seq = 9223372036854775807;
    CREATE TABLE public.commits (tx text PRIMARY KEY, seq bigint);
    CREATE INDEX ON public.commits (seq);
    CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
      head bigint;
    BEGIN
      SELECT last_value INTO head FROM dualstore.changes_seq;
      IF TG_OP <> 'INSERT' THEN
        UPDATE public.history h SET to_seq = (SELECT max(seq) FROM dualstore.changes c WHERE c.id = h.id AND c.seq <= head)
        FROM old_rows o WHERE h.id = o.id AND h.to_seq = 9223372036854775807;
      END IF;
      IF TG_OP <> 'DELETE' THEN
        INSERT INTO public.history
        SELECT n.collection, n.id, n.version, n.item, n.created_at, n.updated_at,
          (SELECT max(seq) FROM dualstore.changes c WHERE c.id = n.id AND c.seq <= head), 9223372036854775807
        FROM new_rows n;
      END IF;
      INSERT INTO public.commits VALUES (pg_current_xact_id()::text, head) ON CONFLICT (tx) DO UPDATE SET seq = head;
      RETURN NULL;
    END $$;`)
  for (const table of ['documents', `documents_${NAME}`]) {
    await pool.query(`
      CREATE TRIGGER z_note_inserts AFTER INSERT ON dualstore.${table} REFERENCING NEW TABLE AS new_rows
        FOR EACH STATEMENT EXECUTE FUNCTION public.note();
      CREATE TRIGGER z_note_updates AFTER UPDATE ON dualstore.${table}
        REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.note();
      CREATE TRIGGER z_note_deletes AFTER DELETE ON dualstore.${table} REFERENCING OLD TABLE AS old_rows
        FOR EACH STATEMENT EXECUTE FUNCTION public.note();`)
  }
}

const headOf = async (pool: Pool): Promise<number> => (await readHead(pool)).position

const itemOf = (draw: Draw) => ({
  session: draw.from(SESSIONS),
  ...(draw.chance(0.8) && { n: draw.from([0, 0.3, 1, 1.5, 7]) }),
  ...(draw.chance(0.5) && { label: draw.from(['red', 'green']) }),
  ...(draw.chance(0.5) && { tags: draw.from<unknown>(['red', ['red', 'green'], [1, 2], null, { a: 1 }]) }),
})

/** One request to an instance. It may be refused: an id is taken or gone, or psql has left what a patch cannot keep. */
async function writeThrough({ documents }: Context, draw: Draw): Promise<void> {
  const place = { collection: NAME, id: draw.from(IDS) }
  const refused = (error: { retryable?: boolean; code?: string }) => {
    if (!['ALREADY_EXISTS', 'NOT_FOUND', 'CONFLICT', 'INVALID_REQUEST'].includes(error.code ?? ''))
      throw error
  }
  const create = () => documents.create(localAccess, NAME, { ...itemOf(draw), id: draw.from(IDS) })
  const work = [
    create,
    // Several that share a statement.
    () => Promise.all(Array.from({ length: 5 }, () => create().catch(refused))),
    () => documents.put(localAccess, place, itemOf(draw)),
    () => documents.patch(localAccess, place, { kind: 'merge', body: itemOf(draw) }),
    () => documents.remove(localAccess, place),
    () => documents.remove(localAccess, place),
  ]
  await draw.from(work)().catch(refused)
}

/** Statements of psql that lock several things may meet in another order. */
function unlessDeadlock(error: unknown): void {
  if ((error as { code?: string }).code !== '40P01') throw error
}

/** A statement of psql: what the program would never write, or does not commit. */
async function writePast(pool: Pool, draw: Draw): Promise<void> {
  const item = {
    ...itemOf(draw),
    id: draw.from(IDS),
    created_at: draw.from([LATER, '2020-01-01T00:00:00.000Z']),
  }
  const odd = {
    ...item,
    ...(draw.chance(0.3) && { label: ['red', 'blue'] }),
    ...(draw.chance(0.3) && { n: '@long' }),
  }
  const text = JSON.stringify(odd).replace('"@long"', LONG)
  const insert = `INSERT INTO dualstore.documents (collection, id, item, created_at, updated_at)
    VALUES ('${NAME}', $1::jsonb ->> 'id', $1::jsonb, $2, $2) ON CONFLICT DO NOTHING`
  // The columns do not hold the times that the item does.
  const times = draw.from([0, Date.parse(LATER) + 1000])
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    const statements: [sql: string, values: unknown[]][] = [
      [insert, [text, times]],
      [
        `DELETE FROM dualstore.documents WHERE collection = '${NAME}' AND item ->> 'session' = $1`,
        [draw.from(SESSIONS)],
      ],
      [
        `UPDATE dualstore.documents SET item = $1::jsonb || jsonb_build_object('id', id)
         WHERE collection = '${NAME}' AND id < $2`,
        [text, draw.from(IDS)],
      ],
    ]
    const [sql, values] = statements[draw.chance(0.5) ? 0 : 1 + draw.below(2)] ?? [insert, [text, times]]
    await client.query(sql, values)
    await client.query(draw.chance(0.3) ? 'ROLLBACK' : 'COMMIT')
  } catch (error) {
    await client.query('ROLLBACK')
    unlessDeadlock(error)
  } finally {
    client.release()
  }
}

interface Asked {
  query: ListQuery
  rows: Filter
}

const FILTERS: readonly object[] = [
  {},
  { session: 's1' },
  { session: { $ne: 's0' } },
  { n: 0.3 },
  { n: { $gte: 1 } },
  { label: 'red' },
  { label: { $nin: ['red', null] } },
  { tags: 'red' },
  { tags: { $exists: false } },
  { session: 's2', created_at: { $gte: LATER } },
  { $or: [{ created_at: { $lt: LATER } }, { label: 'green' }] },
  { updated_at: { $gt: LATER } },
]

function drawList(draw: Draw): Asked {
  const query = {
    limit: draw.from([1, 3, 50]),
    offset: draw.from([0, 0, 0, 2]),
    count: 'exact',
    sort_by: 'created_at',
    sort_order: draw.from(['asc', 'desc'] as const),
    filter: JSON.stringify(draw.from(FILTERS)),
    ...(draw.chance(0.1) && { q: draw.from(['red', 'green']) }),
    ...(draw.chance(0.1) && { created_after: LATER }),
  } as ListQuery
  return { query, rows: draw.chance(0.3) ? parseFilter(draw.from(FILTERS)) : everything }
}

/** What each state between two positions would have been answered with. */
async function statesBetween(
  pool: Pool,
  { query, rows, before, after }: Asked & { before: number; after: number },
): Promise<{ total: number; page: string }[]> {
  let filter = both(parseFilter(query.filter ?? {}), rows)
  if (query.created_after !== undefined)
    filter = both(filter, { op: 'gte', path: ['created_at'], bound: query.created_after })
  const params = new Params()
  const where = selectionSql({ collection: NAME, schema: SCHEMA, filter, text: query.q }, params)
  const range = [params.add(before), params.add(after)]
  const direction = query.sort_order === 'asc' ? 'ASC' : 'DESC'
  const { rows: found } = await pool.query<{ text: string; from_seq: number; to_seq: number }>(
    `SELECT d.item::text AS text, d.from_seq, d.to_seq FROM public.history d
     WHERE ${where} AND d.to_seq > ${range[0]} AND d.from_seq <= ${range[1]}
     ORDER BY d.created_at ${direction}, d.id ${direction}`,
    params.values,
  )
  const { rows: commits } = await pool.query<{ seq: number }>(
    'SELECT seq FROM public.commits WHERE seq > $1 AND seq <= $2',
    [before, after],
  )
  return [before, ...commits.map(({ seq }) => seq)].map((position) => {
    const there = found.filter(({ from_seq, to_seq }) => from_seq <= position && position < to_seq)
    const page = there.slice(query.offset, query.offset + query.limit)
    return { total: there.length, page: page.map(({ text }) => text).join('\n') }
  })
}
