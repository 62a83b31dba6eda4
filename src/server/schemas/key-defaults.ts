// Apart from schemas/key.ts, so that the command line's help needs no schema.

/** What a caller may do at all, from least to most; each may do what those before it may. */
export const roles = ['reader', 'writer', 'admin'] as const
export type Role = (typeof roles)[number]

/** How long the present secret stays good beside a new one, unless told. */
export const OVERLAP_SECONDS = 3600
/** How long ago a key must have ended to be pruned, unless told. */
export const PRUNE_SECONDS = 30 * 86_400
