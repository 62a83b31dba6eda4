import { readdirSync, readFileSync } from 'node:fs'
import { until } from './follower.js'

/** Stops a process until SIGCONT, and returns when none of its threads answers any more. Linux only. */
export async function freeze(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP')
  await until(async () => threadsOf(pid).every((state) => state === 'T'))
}

function threadsOf(pid: number): (string | undefined)[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((thread) => {
    try {
      const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8')
      // "pid (command) state …", and a command may hold anything.
      return [stat.slice(stat.lastIndexOf(')') + 2).split(' ')[0]]
    } catch {
      return []
    }
  })
}
