import { createRequire } from 'node:module'

/** A package that is loaded when it is first needed, for places where nothing can be awaited. */
export function lazily<T>(name: string): () => T {
  let loaded: T | undefined
  return () => {
    loaded ??= createRequire(import.meta.url)(name) as T
    return loaded
  }
}
