// Arrays as PostgreSQL writes them. The driver takes arrays too, but looks at each element for what it may be.

/** A bigint[]. */
export function bigints(values: readonly number[]): string {
  return `{${values.join(',')}}`
}

/** A text[]. */
export function texts(values: readonly string[]): string {
  return values.length === 0 ? '{}' : `{"${values.map(escaped).join('","')}"}`
}

const SPECIAL = /["\\]/

function escaped(text: string): string {
  return SPECIAL.test(text) ? text.replaceAll('\\', '\\\\').replaceAll('"', '\\"') : text
}
