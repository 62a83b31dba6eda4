import type { Pool } from '../db/pool.js'
import { everything } from '../filter/ast.js'
import type { CollectionDefinition } from '../schemas/collection.js'
import { scanDocuments } from '../store/scan.js'
import { compileItemValidator, ownFields } from './item-validator.js'

/** Stored documents that a new schema would not accept. */
export interface Misfits {
  checked: number
  count: number
  /** The first of them, with what is wrong. */
  sample: { id: string; field: string; message: string }[]
}

const SAMPLE = 20

/** Reads every stored document in pages and checks it against a definition; constant memory. */
export async function findMisfits(pool: Pool, definition: CollectionDefinition): Promise<Misfits> {
  const validate = compileItemValidator(definition.schema)
  const misfits: Misfits = { checked: 0, count: 0, sample: [] }
  const selection = {
    collection: definition.name,
    schema: definition.schema,
    filter: everything,
    text: undefined,
  }
  for await (const page of scanDocuments(pool, selection)) {
    for (const { id, text } of page) {
      const fault = validate(ownFields(JSON.parse(text)), 'item')
      misfits.checked++
      if (fault === undefined) continue
      misfits.count++
      if (misfits.sample.length < SAMPLE) misfits.sample.push({ id, ...fault })
    }
  }
  return misfits
}
