import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

/** What a process of the benchmark offers to its parent, beside its memory use. */
export type Calls = Record<string, (argument: never) => Promise<unknown>>

interface Request {
  id: number
  call: string
  argument: unknown
}

type Message = { ready: { url: string } } | { id: number; value: unknown } | { id: number; error: string }

/** A part of the benchmark in a process of its own. */
export interface Process {
  /** Where it listens; empty when it serves no HTTP. */
  url: string
  /** Calls a function of the process by name; rejects with what that function threw. */
  call<T>(name: string, argument?: unknown): Promise<T>
  /** Resident memory in MiB. */
  rss(): Promise<number>
  /** CPU time used so far in µs. */
  cpu(): Promise<number>
  /** Lets it close and waits for its end. */
  stop(): Promise<void>
}

/** Starts `processes/<script>.js` with one argument and resolves when it says that it is ready. */
export async function startProcess(script: string, argument: unknown = {}): Promise<Process> {
  const path = fileURLToPath(new URL(`./processes/${script}.js`, import.meta.url))
  const child = fork(path, [JSON.stringify(argument)], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>()
  let requests = 0
  let opened: (url: string) => void = () => {}
  const ready = new Promise<string>((resolve) => {
    opened = resolve
  })
  child.on('message', (message: Message) => {
    if ('ready' in message) return opened(message.ready.url)
    const caller = waiting.get(message.id)
    waiting.delete(message.id)
    if ('error' in message) caller?.reject(new Error(message.error))
    else caller?.resolve(message.value)
  })
  const ended = once(child, 'exit').then(([code, signal]) => {
    const error = new Error(`${script} ended (${code ?? signal})`)
    for (const caller of waiting.values()) caller.reject(error)
    return error
  })
  const early = ended.then((error) => Promise.reject(error))
  early.catch(() => {})
  const call = <T>(name: string, value?: unknown) =>
    new Promise<T>((resolve, reject) => {
      const request: Request = { id: requests++, call: name, argument: value }
      waiting.set(request.id, { resolve: resolve as (value: unknown) => void, reject })
      child.send(request)
    })
  return {
    url: await Promise.race([ready, early]),
    call,
    rss: () => call<number>('rss'),
    cpu: () => call<number>('cpu'),
    stop: () => stop(child),
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exit = once(child, 'exit')
  // A closed channel is what tells a process to end, so that none outlives a benchmark that was killed.
  if (child.connected) child.disconnect()
  await exit
}

/** The argument that startProcess gave to this process. */
export function processArgument<T>(): T {
  return JSON.parse(process.argv[2] ?? '{}') as T
}

/** Says that this process is ready, answers calls until the parent lets go, then closes and ends. */
export function offer({
  url = '',
  calls = {},
  close,
}: {
  url?: string
  calls?: Calls
  close(): Promise<unknown>
}): void {
  const all: Calls = {
    ...calls,
    rss: async () => process.memoryUsage.rss() / 1024 / 1024,
    cpu: async () => {
      const { user, system } = process.cpuUsage()
      return user + system
    },
  }
  const answer = async ({ id, call, argument }: Request) => {
    try {
      process.send?.({ id, value: await all[call]?.(argument as never) })
    } catch (error) {
      process.send?.({ id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
    }
  }
  process.on('message', (request: Request) => void answer(request))
  process.once('disconnect', () => {
    close().then(
      () => process.exit(0),
      (error) => {
        console.error(error)
        process.exit(1)
      },
    )
  })
  process.send?.({ ready: { url } })
}
