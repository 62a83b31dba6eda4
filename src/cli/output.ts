/** What a command found out, for programs and for people. */
export interface Result {
  json: unknown
  /** Parts that people read, one below the other. */
  text: readonly (string | Table)[]
}

export interface Table {
  head: readonly string[]
  rows: readonly (readonly unknown[])[]
}

/** Prints a result on stdout: one JSON document with `json`, else tables on a terminal and tab-separated text off it. */
export async function print(result: Result, options: { json?: boolean | undefined }): Promise<void> {
  if (options.json) {
    process.stdout.write(`${JSON.stringify(result.json, null, 2)}\n`)
    return
  }
  for (const part of result.text) {
    const text = typeof part === 'string' ? part : await tableText(part)
    if (text !== '') process.stdout.write(`${text}\n`)
  }
}

/** A line for people on stderr: what is not the result. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

/** True when colour may be used on a stream. */
export function colourful(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== 'dumb'
}

/** Numbers with their thousands set apart, for people. */
export function number(value: number): string {
  return value.toLocaleString('en-US')
}

/** "1 document", "2 documents". */
export function counted(count: number, noun: string): string {
  return `${number(count)} ${noun}${count === 1 ? '' : 's'}`
}

/** Text without control characters: what a document holds must not drive the terminal of who looks at it. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is being shown
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (character) => {
    const code = character.charCodeAt(0).toString(16).padStart(4, '0')
    return { '\n': '\\n', '\r': '\\r', '\t': '\\t' }[character] ?? `\\u${code}`
  })
}

/** A table as it is printed: drawn on a terminal, tab-separated off it. */
export async function tableText({ head, rows }: Table): Promise<string> {
  const cells = rows.map((row) => row.map(cellText))
  if (!process.stdout.isTTY) return [head, ...cells].map((row) => row.join('\t')).join('\n')
  const { default: CliTable } = await import('cli-table3')
  const colour = colourful(process.stdout)
  const table = new CliTable({
    head: [...head],
    style: { head: colour ? ['bold'] : [], border: colour ? ['gray'] : [], compact: true },
  })
  table.push(...cells)
  return table.toString()
}

function cellText(value: unknown): string {
  if (value === undefined || value === null) return ''
  return printable(typeof value === 'string' ? value : JSON.stringify(value))
}
