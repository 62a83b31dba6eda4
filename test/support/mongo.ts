import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { MongoClient } from 'mongodb'
import { end, endWithUs } from './child.js'
import { available } from './installed.js'
import { freePort } from './ports.js'
import { virtualEnvironment } from './venv.js'

const SECANTUS = '0.7.0b3'
const START_TIMEOUT_MS = 30_000

/** How a MongoDB wire server of this machine is started on a port and a folder. */
interface Program {
  name: string
  command: string
  args(port: number, folder: string): string[]
}

/** A MongoDB wire server of its own, for tests that stop, kill or disturb it. */
export interface MongoServer {
  uri: string
  /** Of the process that runs now; after a restart another one. */
  readonly pid: number
  /** Ends it and removes its folder. */
  stop(): Promise<void>
  /** Ends it at once, as a power cut would; its folder stays. */
  kill9(): Promise<void>
  /** Starts it again on the same port and folder, after kill9. */
  restart(): Promise<void>
}

/** A database of one test file, on TEST_MONGODB_URL or on a server started for the file. */
export interface TestMongo {
  uri: string
  database: string
  close(): Promise<void>
}

/** True when there is a MongoDB to test against; says so loudly when there is none, and fails when CI=true. */
export async function mongoIsAvailable(): Promise<boolean> {
  if (process.env.TEST_MONGODB_URL) return true
  return serverIsAvailable()
}

/** The same for tests that need a process to kill, which TEST_MONGODB_URL does not give. */
export async function serverIsAvailable(): Promise<boolean> {
  const hint =
    `NO MONGODB FOR TESTS: they are skipped. Set TEST_MONGODB_URL, put mongod on PATH, or let pip install ` +
    `secantusdb==${SECANTUS}`
  return available(hint, program)
}

/** Gives a test file its own database; close() drops it, and ends the server when one was started for it. */
export async function testMongo(): Promise<TestMongo> {
  const given = process.env.TEST_MONGODB_URL
  const server = given ? undefined : await startMongo()
  const uri = given ?? server?.uri ?? ''
  const database = `dualstore_test_${randomBytes(6).toString('hex')}`
  return {
    uri,
    database,
    close: async () => {
      if (server !== undefined) return server.stop()
      const client = new MongoClient(uri)
      await client.db(database).dropDatabase()
      await client.close()
    },
  }
}

/** Starts a server on a free loopback port and an empty folder, and waits until it answers. */
export async function startMongo(): Promise<MongoServer> {
  const { command, args } = await program()
  const folder = await mkdtemp(join(tmpdir(), 'dualstore-mongo-'))
  const port = await freePort()
  const uri = `mongodb://127.0.0.1:${port}/?directConnection=true`
  let child = await launch(command, args(port, folder), uri)
  return {
    uri,
    get pid() {
      return child.pid ?? 0
    },
    stop: async () => {
      await end(child, 'SIGTERM')
      await rm(folder, { recursive: true, force: true })
    },
    kill9: () => end(child, 'SIGKILL'),
    restart: async () => {
      child = await launch(command, args(port, folder), uri)
    },
  }
}

let found: Promise<Program> | undefined

function program(): Promise<Program> {
  found ??= findProgram()
  return found
}

async function findProgram(): Promise<Program> {
  const mongod = (process.env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, 'mongod'))
    .find(existsSync)
  if (mongod !== undefined) {
    const flags = ['--bind_ip', '127.0.0.1', '--setParameter', 'enableTestCommands=1']
    return {
      name: 'mongod',
      command: mongod,
      args: (port, folder) => [...flags, '--port', String(port), '--dbpath', folder],
    }
  }
  const python = join(await virtualEnvironment('secantus', 'secantusdb', SECANTUS), 'bin', 'python')
  // Through -c and not through its script, whose first line names the folder it was installed in.
  const main = ['-c', 'import sys; from secantus.cli import main; sys.exit(main())']
  const flags = ['--host', '127.0.0.1', '--enable-test-commands', '--cache-size', '256M']
  return {
    name: 'SecantusDB',
    command: python,
    args: (port, folder) => [...main, ...flags, '--port', String(port), '--storage-path', folder],
  }
}

async function launch(command: string, args: readonly string[], uri: string): Promise<ChildProcess> {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let output = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-4000)
  })
  endWithUs(child)
  const client = new MongoClient(uri, {
    serverSelectionTimeoutMS: START_TIMEOUT_MS,
    heartbeatFrequencyMS: 500,
  })
  const early = once(child, 'exit').then(() => {
    throw new Error(`the MongoDB for tests ended at once:\n${output}`)
  })
  try {
    await Promise.race([client.db('admin').command({ ping: 1 }), early])
    return child
  } catch (error) {
    child.kill('SIGKILL')
    throw error
  } finally {
    early.catch(() => {})
    await client.close()
  }
}
