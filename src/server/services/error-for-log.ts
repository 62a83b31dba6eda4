/** How far causes are followed. */
const MAX_CAUSES = 5

/**
 * What of an error may stand in the log: what it is and where it came from. Drivers hang whole rows and documents on
 * theirs (PostgreSQL's `detail` and `where`, MongoDB's `writeErrors` and `errInfo`), which is what clients have stored.
 */
export function errorForLog(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return typeof error
  const { name, message, stack, cause } = error
  const { code, constraint, table, routine } = error as Error & Record<string, unknown>
  return {
    type: name,
    message,
    code,
    constraint,
    table,
    routine,
    stack,
    ...(cause !== undefined && depth < MAX_CAUSES && { cause: errorForLog(cause, depth + 1) }),
  }
}
