import { setTimeout as delay } from 'node:timers/promises'
import type { Program } from '../../../support/process.js'
import { type StoreProxy, startProxy } from '../../../support/proxy.js'
import { startServer } from '../../../support/serve.js'
import type { Draw } from '../random.js'

/** What was done to the instances. */
export interface Disturbances {
  kills: number
  stops: number
  /** Connections to PostgreSQL broken, and held still for a while. */
  cuts: number
  freezes: number
}

/** Several instances on one PostgreSQL, each reaching it through a proxy of its own. */
export interface Cluster {
  /** The address of a random instance that serves just now. */
  url(draw: Draw): string
  tally: Disturbances
  /** Every defect that instances have logged: nothing that is done to them may bring one out. */
  errors(): string[]
  /** Does one thing to one instance, drawn at random, and resolves when the instance serves again. */
  disturb(): Promise<void>
  close(): Promise<void>
}

export interface ClusterOptions {
  databaseUrl: string
  /** At least two: one is away at times. */
  instances: number
  draw: Draw
  env?: Readonly<Record<string, string>>
}

const START_MS = 60_000
/** As pino counts. */
const ERROR_LEVEL = 50

export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const { databaseUrl, draw } = options
  const tally: Disturbances = { kills: 0, stops: 0, cuts: 0, freezes: 0 }
  const started = await Promise.all(
    Array.from({ length: options.instances }, () => start(databaseUrl, options.env)),
  )
  const errors: string[] = []
  const keepErrors = ({ program }: Instance) => {
    // Refusals with a code of the catalogue are logged as errors too, and are what a broken connection must lead to.
    const severe = program.logs().filter((line) => Number(line.level) >= ERROR_LEVEL && !isRefusal(line))
    errors.push(...severe.map((line) => `an instance logged ${JSON.stringify(line)}`))
  }
  /** Those that serve. */
  const serving = () => started.filter(({ up }) => up)
  return {
    tally,
    url: (by) => by.from(serving()).program.url,
    errors: () => {
      for (const instance of started) keepErrors(instance)
      return errors
    },
    disturb: async () => {
      const instance = draw.from(started)
      const what = draw.from(['kill', 'kill', 'kill', 'stop', 'cut', 'freeze'] as const)
      if (what === 'kill' || what === 'stop') {
        tally[what === 'kill' ? 'kills' : 'stops']++
        // Clients go on coming to it until it has ended: nothing tells them beforehand.
        await (what === 'kill' ? instance.program.kill9() : instance.program.stop())
        instance.up = false
        keepErrors(instance)
        instance.program = await startServer(instance.env, { timeoutMs: START_MS })
        instance.up = true
        return
      }
      if (what === 'cut') instance.proxy.cut()
      else instance.proxy.freeze()
      tally[what === 'cut' ? 'cuts' : 'freezes']++
      await delay(50 + draw.below(400))
      instance.proxy.restore()
    },
    close: async () => {
      await Promise.all(started.map(({ program }) => program.stop().catch(() => program.kill9())))
      for (const { proxy } of started) await proxy.close()
    },
  }
}

const isRefusal = ({ err }: Record<string, unknown>): boolean =>
  (err as { type?: string } | undefined)?.type === 'DualstoreError'

interface Instance {
  program: Program
  proxy: StoreProxy
  env: Record<string, string>
  up: boolean
}

async function start(databaseUrl: string, more: ClusterOptions['env']): Promise<Instance> {
  const proxy = await startProxy(databaseUrl)
  const env = {
    DATABASE_URL: proxy.through(databaseUrl),
    // The mirror is another follower of the same log and has tests of its own.
    DUAL_WRITE_ENABLED: 'false',
    DATABASE_POOL_SIZE: '6',
    SSE_HEARTBEAT_INTERVAL: '500',
    ...more,
  }
  const program = await startServer(env, { timeoutMs: START_MS })
  return { program, proxy, env, up: true }
}
