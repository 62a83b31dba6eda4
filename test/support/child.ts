import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'

/** Sees to it that a process does not outlive this one. */
export function endWithUs(child: ChildProcess): void {
  const killAtExit = () => child.kill('SIGKILL')
  process.once('exit', killAtExit)
  child.once('exit', () => process.off('exit', killAtExit))
}

/** Sends a signal and waits for the end; one that has ended is left alone. */
export async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill(signal)
  await ended
}
