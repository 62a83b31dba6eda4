import type { Path } from '../filter/path.js'

/** Collects the values of one statement while its text is put together; what comes back are the places ($1, $2, …). */
export class Params {
  readonly values: unknown[] = []
  readonly #paths = new Map<string, string>()

  /** @param value As node-pg takes it; the text casts the place to its type. */
  add(value: unknown): string {
    this.values.push(value)
    return `$${this.values.length}`
  }

  /** A path as text[]; the same path keeps its place. */
  path(path: Path): string {
    const name = JSON.stringify(path)
    const known = this.#paths.get(name)
    if (known !== undefined) return known
    const place = `${this.add([...path])}::text[]`
    this.#paths.set(name, place)
    return place
  }
}
