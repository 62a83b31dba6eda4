// Apart from schemas/key.ts, so that the command line's help needs no schema.

/** What a caller may do at all, from least to most; each may do what those before it may. */
export const roles = ['reader', 'writer', 'admin'] as const
export type Role = (typeof roles)[number]
