/** Whose change it is and where it came from, as the change log keeps it. */
export interface Origin {
  /** A principal's id. */
  author: string
  /** A client's address; undefined for the CLI. */
  address?: string | undefined
}

interface Originated extends Partial<Origin> {
  collection: string
  id: string
}

/**
 * What migration 0006 takes to tell the triggers whose the rows of one statement are; null when nobody is known. Almost
 * always all have the same author, which is said once.
 */
export function originOf(writes: readonly Originated[]): string | null {
  const [first] = writes
  if (first === undefined) return null
  const { author, address } = first
  if (writes.every((write) => write.author === author && write.address === address)) {
    return author === undefined ? null : JSON.stringify({ author, address })
  }
  const each = new Map<string, [string, [string | null, string | null]][]>()
  for (const write of writes) {
    const documents = each.get(write.collection) ?? []
    each.set(write.collection, documents)
    documents.push([write.id, [write.author ?? null, write.address ?? null]])
  }
  // fromEntries, because an id may be `__proto__`.
  const byCollection = [...each].map(([name, documents]) => [name, Object.fromEntries(documents)] as const)
  return JSON.stringify({ each: Object.fromEntries(byCollection) })
}
