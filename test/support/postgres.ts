import { existsSync, readdirSync } from 'node:fs'
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type EmbeddedServer, startEmbedded } from '../../src/server/db/embedded.js'
import { dataDirectory } from './directory.js'
import { asAdmin } from './global-setup.js'
import { atEndOfFile } from './leaks.js'
import { statOf } from './proc.js'

/** A PostgreSQL cluster of the test file's own, whose processes may be stopped, killed and started again. */
export interface TestPostgresServer {
  /** Of the server that runs now; after a restart another port. */
  readonly url: string
  /** Sends a signal to every process of the server, as a machine that stands still would stop them all. */
  signal(name: 'SIGSTOP' | 'SIGCONT'): Promise<void>
  /** Ends all of it at once. */
  kill9(): Promise<void>
  /** An orderly end. */
  stop(): Promise<void>
  /** Starts it again on another port, as a standby when that is asked for: it then takes no writes. */
  start(options?: { standby?: boolean }): Promise<void>
  /** Copies it, stopped, to a cluster that is started when asked. */
  copy(): Promise<TestPostgresServer>
  /** Runs statements as the superuser, past any program; resolves to the rows of the last. */
  run(...statements: string[]): Promise<Record<string, unknown>[]>
}

/** Starts one; it is ended and removed after the file's last test. */
export async function startPostgres(): Promise<TestPostgresServer> {
  const server = clusterIn(await dataDirectory())
  await server.start()
  return server
}

function clusterIn(home: string): TestPostgresServer {
  const directory = join(home, 'postgres')
  let running: EmbeddedServer | undefined
  let url = ''
  const postmaster = async () =>
    Number((await readFile(join(directory, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')[0])

  const server: TestPostgresServer = {
    get url() {
      return url
    },
    async signal(name) {
      const pid = await postmaster()
      // The postmaster first: one that is not stopped would make new children meanwhile.
      send(pid, name)
      for (const child of childrenOf(pid)) send(child, name)
    },
    async kill9() {
      const pid = await postmaster()
      // Without the postmaster the others end by themselves, but not those that are stopped.
      const all = [pid, ...childrenOf(pid)]
      for (const one of all) send(one, 'SIGKILL')
      for (const one of all) while (isAlive(one)) await delay(10)
      await running?.close()
      running = undefined
    },
    async stop() {
      await running?.close()
      running = undefined
    },
    async start({ standby = false } = {}) {
      if (standby) await writeFile(join(directory, 'standby.signal'), '')
      running = await startEmbedded(home)
      url = running.url
    },
    async copy() {
      const other = await dataDirectory()
      await cp(home, other, { recursive: true, preserveTimestamps: true })
      await own(join(other, 'postgres'), directory)
      return clusterIn(other)
    },
    async run(...statements) {
      return asAdmin(url, async (admin) => {
        let rows: Record<string, unknown>[] = []
        for (const statement of statements) rows = (await admin.query(statement)).rows
        return rows
      })
    },
  }
  atEndOfFile(async () => {
    if (existsSync(join(directory, 'postmaster.pid'))) await server.signal('SIGCONT').catch(() => {})
    await server.stop()
  })
  return server
}

/** As root PostgreSQL runs as another user, whom a copy must belong to as well. */
async function own(copy: string, original: string): Promise<void> {
  const { execa } = await import('execa')
  await execa('chown', ['-R', `--reference=${original}`, copy])
  await execa('chmod', ['700', copy])
}

/** To a process that may have ended meanwhile. */
function send(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** Read at once and not in turns: on a busy machine that would take seconds, in which they come and go. */
function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && statOf(name)?.parent === pid)
    .map(Number)
}

function isAlive(pid: number): boolean {
  const stat = statOf(String(pid))
  return stat !== undefined && stat.state !== 'Z'
}
