// Apart from schemas/key.ts, so that the command line's help needs no schema.

/** How long the present secret stays good beside a new one, unless told. */
export const OVERLAP_SECONDS = 3600
/** How long ago a key must have ended to be pruned, unless told. */
export const PRUNE_SECONDS = 30 * 86_400
