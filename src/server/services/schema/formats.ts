import type { Ajv, Format } from 'ajv'
import addFormats from 'ajv-formats'

/** Beyond, V8 runs out of stack in the regular expressions of formats, which was answered with 500. */
const MAX_FORMATTED = 65_536
/** The expression of `url` takes the square of the text's length. */
const MAX_URL = 2048
type Check = (text: string) => boolean
const unbounded = new Set(['byte', 'binary', 'password'])

/**
 * The usual formats (ajv-formats) in time that a text of any length cannot stretch: one longer than 65,536 characters
 * is none of them, 2,048 for `url`. Base64 of any length is `byte`.
 */
export function addBoundedFormats(ajv: Ajv): void {
  addFormats.default(ajv)
  for (const [name, format] of Object.entries(ajv.formats)) {
    if (format === undefined || unbounded.has(name)) continue
    ajv.addFormat(name, bounded(format, name === 'url' ? MAX_URL : MAX_FORMATTED))
  }
  ajv.addFormat('byte', isBase64)
}

function bounded(format: Format, max: number): Format {
  if (format instanceof RegExp) return (text: string) => text.length <= max && format.test(text)
  if (typeof format === 'function') return (text: string) => text.length <= max && format(text)
  if (typeof format !== 'object' || format.type === 'number') return format
  const { validate } = format
  if (typeof validate !== 'function') return format
  return { ...format, validate: (text: string) => text.length <= max && (validate as Check)(text) } as Format
}

/** RFC 4648, section 4; looks for what must not be there, which needs no stack. */
function isBase64(text: string): boolean {
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0
  return text.length % 4 === 0 && !/[^A-Za-z0-9+/]/.test(padding === 0 ? text : text.slice(0, -padding))
}
