import type { Fields } from './json.js'

/** An object whose members are taken one by one, so that the rest can be told. */
export class Part {
  readonly #object: Fields
  /** Few names, so that looking through them takes less than a set. */
  readonly #taken: string[] = []

  constructor(object: Fields) {
    this.#object = object
  }

  /** A member; undefined when it is missing or null, which the legacy store has for a missing one. */
  peek(name: string): unknown {
    return Object.hasOwn(this.#object, name) ? (this.#object[name] ?? undefined) : undefined
  }

  /** The same, and it is no longer part of the rest. */
  take(name: string): unknown {
    if (!Object.hasOwn(this.#object, name)) return undefined
    this.#taken.push(name)
    return this.#object[name] ?? undefined
  }

  /** Names of what was not taken. */
  rest(): string[] {
    return Object.keys(this.#object).filter((name) => !this.#taken.includes(name))
  }

  /** A member as it is, null included. */
  get(name: string): unknown {
    return this.#object[name]
  }
}
