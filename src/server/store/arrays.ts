// Arrays as PostgreSQL reads them. The driver takes arrays too, but looks at each element for what it may be.

/** A bigint[]. */
export function bigints(values: readonly number[]): string {
  return `{${values.join(',')}}`
}

/** A text[]. */
export function texts(values: readonly string[]): string {
  return values.length === 0 ? '{}' : `{"${values.map(escaped).join('","')}"}`
}

/**
 * A JSON array of values that are JSON text already. Not joined: what is joined is copied, and copied once more with the
 * brackets around it.
 */
export function jsonArray(values: readonly string[]): string {
  let members = ''
  for (const value of values) members += members === '' ? value : `,${value}`
  return `[${members}]`
}

const SPECIAL = /["\\]/

function escaped(text: string): string {
  return SPECIAL.test(text) ? text.replaceAll('\\', '\\\\').replaceAll('"', '\\"') : text
}
