import type { Kind } from './kinds.js'

/** One setting. Its command-line flag is its key with dashes; docs/configuration.md is generated from here. */
export interface Setting<T> {
  kind: Kind<T>
  /** undefined: the setting is off, or decided at start, unless given. */
  default: T | undefined
  /** Environment names in order of precedence; the first is the one to use, the others are kept from elsewhere. */
  env: readonly [string, ...string[]]
  group: string
  help: string
  /** Masked wherever values are printed: all of it, or of a connection string what could be a password in it. */
  secret?: 'all' | 'in-url'
}

type Rest<T> = Omit<Setting<T>, 'kind' | 'default' | 'env' | 'group'>

/** Declares settings of one group. */
export const inGroup =
  (group: string) =>
  <T, D extends T | undefined>(
    kind: Kind<T>,
    fallback: D,
    env: readonly [string, ...string[]],
    rest: Rest<T>,
  ): Setting<T> & { default: D } => ({ kind, default: fallback, env, group, ...rest })
