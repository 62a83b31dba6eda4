import { createHash } from 'node:crypto'
import { type Queryable, query } from '../db/pool.js'
import type { CollectionDefinition, CollectionIndex } from '../schemas/collection.js'
import { mayBeArray } from './may-be-array.js'

/** An index of ours on a collection's partition: by fields, full text, or the rows in which a field is an array. */
type Shape = CollectionIndex | { array: string }

interface WantedIndex {
  name: string
  shape: Shape
}

const PREFIX = 'dsx_'
const COLUMNS = new Set(['id', 'created_at', 'updated_at'])

/**
 * Index names are hashes of what they index, so that a definition finds its own again. A field that may hold an array
 * gets a second, nearly empty index, without which the filter's arm for elements would keep the first from being used.
 */
function wantedIndexes(collection: CollectionDefinition): WantedIndex[] {
  const fields = collection.indexes.flatMap((index) => ('fields' in index ? index.fields : []))
  const arrays = new Set(fields.filter((field) => mayBeArray(collection.schema, field.split('.'))))
  const shapes: Shape[] = [...collection.indexes, ...[...arrays].map((array) => ({ array }))]
  return shapes.map((shape) => ({ name: nameOf(collection.name, shape), shape }))
}

function nameOf(collection: string, shape: Shape): string {
  const hash = createHash('sha256')
    .update(JSON.stringify([collection, shape]))
    .digest('hex')
  return `${PREFIX}${hash.slice(0, 24)}`
}

/**
 * The statements that bring a partition's indexes to what its definition asks for. PostgreSQL itself quotes every name
 * and path in them (format's %I and %L); they are then run as they come.
 * @param concurrently Without locking out writers; such statements cannot stand in a transaction.
 */
export async function indexStatements(
  on: Queryable,
  collection: CollectionDefinition,
  concurrently: boolean,
): Promise<string[]> {
  const existing = await query<{ name: string; valid: boolean }>(
    on,
    `SELECT c.relname AS name, i.indisvalid AS valid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indrelid = to_regclass(format('dualstore.%I', 'documents_' || $1)) AND c.relname LIKE 'dsx\\_%'`,
    [collection.name],
  )
  const wanted = wantedIndexes(collection)
  const kept = new Set(existing.filter((index) => index.valid).map((index) => index.name))
  const statements: string[] = []
  for (const { name } of existing) {
    // One that is not valid is what an interrupted CREATE INDEX CONCURRENTLY leaves behind.
    if (kept.has(name) && wanted.some((index) => index.name === name)) continue
    statements.push(await dropStatement(on, name, concurrently))
  }
  for (const index of wanted) {
    if (!kept.has(index.name))
      statements.push(await createStatement(on, collection.name, index, concurrently))
  }
  return statements
}

async function dropStatement(on: Queryable, name: string, concurrently: boolean): Promise<string> {
  const rows = await query<{ statement: string }>(
    on,
    `SELECT format('DROP INDEX %s IF EXISTS dualstore.%I', CASE WHEN $2 THEN 'CONCURRENTLY' ELSE '' END, $1::text)
     AS statement`,
    [name, concurrently],
  )
  return rows[0]?.statement ?? ''
}

/**
 * Fields become `(item #>> '{path}') COLLATE "C"`, the form in which filters look for them; id, created_at and
 * updated_at are columns; id ends the key, so that equal values page in a fixed order.
 */
async function createStatement(
  on: Queryable,
  collection: string,
  { name, shape }: WantedIndex,
  concurrently: boolean,
): Promise<string> {
  const fields = fieldsOf(shape)
  const rows = await query<{ statement: string }>(
    on,
    `SELECT format('CREATE INDEX %s IF NOT EXISTS %I ON dualstore.%I ', CASE WHEN $3 THEN 'CONCURRENTLY' ELSE '' END, $1::text,
         'documents_' || $2)
       || CASE
         WHEN $4::text[] IS NOT NULL THEN (
           SELECT '(' || string_agg(CASE WHEN is_column THEN format('%I', field)
             ELSE format('(item #>> %L) COLLATE "C"', string_to_array(field, '.')) END, ', ' ORDER BY n) || ')'
           FROM unnest($4::text[], $5::boolean[]) WITH ORDINALITY AS f(field, is_column, n))
         WHEN $6::text IS NOT NULL THEN
           format('(id) WHERE jsonb_typeof(item #> %L) = ''array''', string_to_array($6::text, '.'))
         ELSE 'USING gin (dualstore.searched(item))'
       END AS statement`,
    [
      name,
      collection,
      concurrently,
      fields,
      fields?.map((field) => COLUMNS.has(field)),
      'array' in shape ? shape.array : null,
    ],
  )
  return rows[0]?.statement ?? ''
}

function fieldsOf(shape: Shape): string[] | null {
  if (!('fields' in shape)) return null
  return shape.fields.includes('id') ? shape.fields : [...shape.fields, 'id']
}
