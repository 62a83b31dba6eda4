import { readFileSync } from 'node:fs'

/** State and parent of a process or of one of its threads, by its path under /proc; undefined when it is gone. Linux only. */
export function statOf(path: string): { state: string; parent: number } | undefined {
  try {
    const stat = readFileSync(`/proc/${path}/stat`, 'utf8')
    // "pid (command) state parent …", and a command may hold anything.
    const [state = '', parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return { state, parent: Number(parent) }
  } catch {
    return undefined
  }
}
