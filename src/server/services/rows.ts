import { DualstoreError } from '../errors.js'
import { both, type Filter } from '../filter/ast.js'
import { matches } from '../filter/matches.js'
import type { Item, Json } from '../schemas/item.js'
import { isRestricted, type Principal } from './principal.js'

/*
 * What the rows of a principal mean, in one place (docs/security.md, "Rows and scopes"; I14).
 *
 * A document outside the rows does not exist for it: it is not found, listed, counted, exported or streamed, and a
 * write never touches it. What a principal writes must itself be inside. The one thing it can learn of a document
 * outside is that an id is taken, when it tries to use it.
 */

/** What a caller asks for, as far as it may see it. */
export function narrowed(filter: Filter, principal: Pick<Principal, 'rows'>): Filter {
  // The same object where nothing is asked and nothing restricted: that is how a stream knows not to look into items.
  return isRestricted(principal) ? both(filter, principal.rows) : filter
}

/** True when it may see this item. */
export function sees(principal: Pick<Principal, 'rows'>, item: Item | Json): boolean {
  return !isRestricted(principal) || matches(principal.rows, item as Json)
}

/** The same for an item as JSON text, which is parsed only where there are rows to hold it against (I13). */
export function seesText(principal: Pick<Principal, 'rows'>, text: string): boolean {
  return !isRestricted(principal) || sees(principal, JSON.parse(text) as Item)
}

/** What somebody is told who would write a document that it could not see; not which values it could. */
export function outsideRows(): DualstoreError {
  const message = 'must stay among the documents that your key is restricted to'
  return new DualstoreError('FORBIDDEN', `body ${message}`, { details: [{ field: 'body', message }] })
}
