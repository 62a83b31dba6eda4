import { compareValues, type Difference, type Fields, isFields, itemsOf, member } from './values.js'

/** Members of raw documents that every reader of them may expect (legacy contract, section 8). */
const COMMON = ['updated_at', 'vectorWriteSuccess', 'vectorWriteTimestamp']

/**
 * The newest documents as they are stored. Which ten these are depends on what else the stores hold, so those that
 * both sides show are compared, in what all of them have in common.
 */
export function compareRaw(legacyBody: unknown, targetBody: unknown): Difference[] {
  if (!isFields(legacyBody) || !isFields(targetBody))
    return compareValues(legacyBody, targetBody, 'body', 'value')
  return Object.keys(legacyBody).flatMap((name) => {
    const where = `body.${name}`
    if (!Array.isArray(targetBody[name]))
      return compareValues(legacyBody[name], targetBody[name], where, 'value')
    const [legacy, target] = [legacyBody, targetBody].map((body) => itemsOf({ data: body[name] })) as [
      Fields[],
      Fields[],
    ]
    return legacy.flatMap((document) => {
      const same = target.find(({ id }) => id === document.id)
      return same === undefined ? [] : compareValues(common(document), common(same), `${where}[]`, 'value')
    })
  })
}

function common({ id, text, timestamp, metadata }: Fields): Fields {
  const fields = COMMON.map((name) => [name, member(metadata, name)])
  return { id, text, timestamp, metadata: isFields(metadata) ? Object.fromEntries(fields) : metadata }
}
