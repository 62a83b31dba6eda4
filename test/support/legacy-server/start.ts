import { fileURLToPath } from 'node:url'
import { freePort } from '../ports.js'
import { type Program, startProgram } from '../process.js'

export type Variant = 'a' | 'b'

export interface LegacyServerOptions {
  /** "a": the documented entry point; "b": the simplified one that was mostly run. */
  variant: Variant
  mongodbUri: string
  /** `database` unless given, as the legacy server had it. */
  database?: string
  /** More settings; server.mjs lists them. */
  env?: Readonly<Record<string, string>>
}

/** The stand-in for the legacy server in a process of its own. */
export interface LegacyServer extends Program {
  /** An update as its provider made one: a second document with the same id. No route led there. */
  update(collection: string, id: string, changes: object): Promise<void>
  /** A delete as its provider made one: it answers and deletes nothing. */
  delete(collection: string, id: string): Promise<void>
}

const SCRIPT = fileURLToPath(new URL('server.mjs', import.meta.url))

/** Starts it on a free loopback port and resolves when it listens. */
export async function startLegacyServer(options: LegacyServerOptions): Promise<LegacyServer> {
  const { variant, mongodbUri, database, env } = options
  const program = await startProgram({
    script: SCRIPT,
    until: 'listening',
    input: true,
    env: {
      VARIANT: variant,
      PORT: String(await freePort()),
      MONGODB_URI: mongodbUri,
      ...(database !== undefined && { MONGODB_DATABASE: database }),
      ...env,
    },
  })
  /** Sends a line and waits for the one that answers it. */
  const order = async (line: object, answer: string) => {
    const found = program.nextLine(answer)
    program.type(`${JSON.stringify(line)}\n`)
    const { ok } = JSON.parse(await found) as { ok: boolean }
    if (!ok) throw new Error(`the legacy server did not take ${JSON.stringify(line)}`)
  }
  return {
    ...program,
    update: (collection, id, changes) =>
      order({ update: { collection, id, changes } }, JSON.stringify({ updated: id }).slice(0, -1)),
    delete: (collection, id) =>
      order({ delete: { collection, id } }, JSON.stringify({ deleted: id }).slice(0, -1)),
  }
}
