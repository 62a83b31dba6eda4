import { readFile, writeFile } from 'node:fs/promises'
import { Command } from 'commander'
import { DualstoreError, invalid } from '../../server/errors.js'
import type { CollectionAnswer } from '../../server/services/collections.js'
import { addConnection, type ConnectionFlags, withClient } from '../client/open.js'
import { counted, say } from '../output.js'

type TypesFlags = ConnectionFlags & { out?: string; yes?: boolean }

export function typesCommand(): Command {
  const command = new Command('types')
    .helpOption('-h, --help', 'print this help')
    .argument('[collections...]', 'only these; all without any')
    .option('--out <file>', 'file to write; otherwise stdout')
    .option('--yes', 'overwrite the file when something else is in it')
    .addHelpText(
      'after',
      `
Examples:
  dualstore types --out src/dualstore.ts
  dualstore types agent_tasks notes --url http://127.0.0.1:3000`,
    )
    .action(async (names: string[], flags: TypesFlags) => {
      const [all, { BANNER, generateTypes }] = await Promise.all([
        withClient(flags, (client) => client.list()),
        import('../types/generate.js'),
      ])
      const collections = chosen(all, names)
      const code = await generateTypes(collections)
      if (flags.out === undefined || flags.out === '-') {
        process.stdout.write(code)
        return
      }
      await requireOwn(flags.out, BANNER, flags.yes)
      await writeFile(flags.out, code).catch((error: Error) => {
        throw invalid('--out', `cannot be written: ${error.message}`)
      })
      say(`wrote the types of ${counted(collections.length, 'collection')} to ${flags.out}`)
    })
  return addConnection(command)
}

function chosen(all: readonly CollectionAnswer[], names: readonly string[]): readonly CollectionAnswer[] {
  if (names.length === 0) return all
  return [...new Set(names)].map((name) => {
    const found = all.find((collection) => collection.name === name)
    if (found === undefined)
      throw new DualstoreError('COLLECTION_NOT_FOUND', `there is no collection "${name}"`)
    return found
  })
}

/** What this command wrote is written again without a question. */
async function requireOwn(file: string, banner: string, yes: boolean | undefined): Promise<void> {
  const existing = await readFile(file, 'utf8').catch(() => '')
  if (existing === '' || existing.startsWith(banner) || yes) return
  throw new DualstoreError(
    'CONFIRMATION_REQUIRED',
    `--out names ${file}, which holds something else; --yes overwrites it`,
  )
}
