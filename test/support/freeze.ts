import { readdirSync } from 'node:fs'
import { until } from './follower.js'
import { statOf } from './proc.js'

/** Stops a process until SIGCONT, and returns when none of its threads answers any more. Linux only. */
export async function freeze(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP')
  await until(() =>
    readdirSync(`/proc/${pid}/task`).every((thread) => {
      const stat = statOf(`${pid}/task/${thread}`)
      return stat === undefined || stat.state === 'T'
    }),
  )
}
