import { setTimeout as delay } from 'node:timers/promises'
import { until } from '../../../support/follower.js'
import { atEndOfFile } from '../../../support/leaks.js'
import type { MongoServer } from '../../../support/mongo.js'
import { startPostgres, type TestPostgresServer } from '../../../support/postgres.js'
import type { Program } from '../../../support/process.js'
import { type StoreProxy, startProxy } from '../../../support/proxy.js'
import { startServer } from '../../../support/serve.js'
import type { Draw } from '../random.js'

/** Who something is done to. The leader is the instance that leads the mirror at that moment. */
export const victims = ['server', 'leader', 'mongodb', 'postgres'] as const
export type Victim = (typeof victims)[number]
/** kill: ended with SIGKILL and started again. stop: SIGSTOP, and SIGCONT a while later. */
export const deeds = ['kill', 'stop'] as const
export type Deed = (typeof deeds)[number]

/** Two instances on one PostgreSQL and one MongoDB, all of them processes that can be killed and stopped. */
export interface Stage {
  /** The address of a random instance that has not been killed. */
  url(draw: Draw): string
  /** PostgreSQL, wherever it runs just now. */
  databaseUrl: string
  /** Does it, and resolves when what was killed runs again or what was stopped goes on. */
  disturb(victim: Victim, deed: Deed, draw: Draw): Promise<void>
  /** What the instances and PostgreSQL are at, for whoever has to find out why something stands still. */
  describe(): Promise<string>
  /** Ends the instances in an orderly way; resolves to what is wrong about how they ended or what they logged. */
  endInstances(): Promise<string[]>
  close(): Promise<void>
}

interface Instance {
  program: Program
  up: boolean
}

const START_MS = 60_000
const INSTANCES = 2
/** As pino counts. */
const FATAL_LEVEL = 60

/** @param mongo Ended by whoever started it. */
export async function startStage(mongo: MongoServer): Promise<Stage> {
  const postgres = await startPostgres()
  const proxy = await startProxy(postgres.url)
  atEndOfFile(() => proxy.close())
  const env = {
    DATABASE_URL: proxy.through(postgres.url),
    MONGODB_URI: mongo.uri,
  }
  const start = () => startServer(env, { timeoutMs: START_MS, until: 'listening' })
  const instances: Instance[] = []
  for (let count = 0; count < INSTANCES; count++) instances.push({ program: await start(), up: true })

  const leader = async (): Promise<Instance | undefined> => {
    const [row] = await postgres.run(`SELECT leader FROM dualstore.followers WHERE id = 'mirror'`)
    const pid = Number(String(row?.leader ?? '').split('-')[0])
    return instances.find(({ program }) => program.pid === pid)
  }
  const instanceFor = async (victim: 'server' | 'leader', draw: Draw): Promise<Instance> =>
    (victim === 'leader' ? await leader().catch(() => undefined) : undefined) ?? draw.from(instances)

  const kill: Record<'instance' | 'mongodb' | 'postgres', (draw: Draw, on: Instance) => Promise<void>> = {
    async instance(draw, instance) {
      await instance.program.kill9()
      instance.up = false
      await delay(draw.below(1000))
      await again(async () => {
        instance.program = await start()
      })
      instance.up = true
    },
    async mongodb(draw) {
      await mongo.kill9()
      await delay(draw.below(3000))
      await mongo.restart()
    },
    async postgres(draw) {
      await postgres.kill9()
      await delay(draw.below(2000))
      await restart(postgres, proxy)
    },
  }

  return {
    url: (draw) => draw.from(instances.filter(({ up }) => up)).program.url,
    databaseUrl: env.DATABASE_URL,
    async disturb(victim, deed, draw) {
      const instance =
        victim === 'server' || victim === 'leader' ? await instanceFor(victim, draw) : undefined
      const kind = instance === undefined ? (victim as 'mongodb' | 'postgres') : 'instance'
      if (deed === 'kill') return kill[kind](draw, instance as Instance)
      const signal = (name: 'SIGSTOP' | 'SIGCONT') => {
        if (instance !== undefined) return instance.program.signal(name)
        return victim === 'postgres' ? postgres.signal(name) : void process.kill(mongo.pid, name)
      }
      await signal('SIGSTOP')
      // Longer than a lease at times, so that a leader comes back to find another in its place.
      await delay(200 + draw.below(victim === 'postgres' ? 2000 : 9000))
      await signal('SIGCONT')
    },
    async describe() {
      const sessions = await postgres.run(
        `SELECT pid, application_name, state, wait_event_type, wait_event, now() - query_start AS since, query
         FROM pg_stat_activity WHERE datname = 'dualstore'`,
      )
      const told = instances.map(async ({ program }) => {
        const metrics = await fetch(`${program.url}/metrics`, { signal: AbortSignal.timeout(5000) })
          .then((answer) => answer.text())
          .catch(String)
        const lines = metrics
          .split('\n')
          .filter((line) => /^dualstore_(mirror|breaker|pool|follower)/.test(line))
        return [`pid ${program.pid}`, ...lines, ...program.stdout().split('\n').slice(-15)].join('\n')
      })
      return [...(await Promise.all(told)), JSON.stringify(sessions, null, 1)].join('\n\n')
    },
    async endInstances() {
      const wrong: string[] = []
      for (const { program } of instances) {
        const { code, signal } = await program.stop()
        if (code !== 0) wrong.push(`an instance ended with ${code ?? signal}`)
        for (const line of program.logs()) {
          if (Number(line.level) >= FATAL_LEVEL) wrong.push(`an instance logged ${JSON.stringify(line)}`)
        }
      }
      instances.length = 0
      return wrong
    },
    async close() {
      for (const { program } of instances) await program.kill9()
    },
  }
}

/** An instance that is started while a store is away ends at once, as it should; it is then started again. */
async function again(start: () => Promise<void>): Promise<void> {
  await until(
    () =>
      start().then(
        () => true,
        () => false,
      ),
    START_MS,
  )
}

async function restart(postgres: TestPostgresServer, proxy: StoreProxy): Promise<void> {
  await postgres.start()
  proxy.retarget(postgres.url)
}
