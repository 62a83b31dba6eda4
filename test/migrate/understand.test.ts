import { BSON } from 'mongodb'
import { describe, expect, it } from 'vitest'
import { understand } from '../../src/migrate/understand.js'
import { shippedCollections } from '../../src/server/schemas/shipped-collections.js'
import { legacyDatabase } from '../support/legacy-database.js'

describe('generated', () => {
  it.each(shippedCollections)('$name', (definition) => {
    const db = legacyDatabase({ seed: 1, documents: 5000 })
    for (const { document, item, kinds } of db.documents(definition.name)) {
      const sourceId = BSON.EJSON.stringify(document._id, { relaxed: false })
      const understood = understand(definition, { sourceId, document })
      const context = { kinds, document, reason: 'reason' in understood ? understood.reason : '' }
      expect({ ...context, item: understood.kind === 'item' ? understood.item : null }).toEqual({
        ...context,
        item,
      })
    }
  })
})
