import type { Writable } from 'node:stream'

/**
 * Resolves when a line is written: true, or false when whoever read has gone away. Asked of the write itself, because
 * process.stdout stays writable after a broken pipe.
 */
export function writeLine(target: Writable, line: string): Promise<boolean> {
  return new Promise((resolve) => {
    target.write(`${line}\n`, (error) => resolve(error === null || error === undefined))
  })
}
