import { DualstoreError } from '../../server/errors.js'
import type { CollectionDefinition } from '../../server/schemas/collection.js'
import { typeSchema } from './schema.js'

/** The first line of what is written, by which it is known again. */
export const BANNER = '// Written by "dualstore types"; changes made here are lost.'

const HEAD = `${BANNER}
/* eslint-disable */

/** What the server adds to every document. Times are ISO 8601 UTC with milliseconds. */
export interface ServerFields {
  id: string
  created_at: string
  updated_at: string
}
`

/**
 * TypeScript for collections, ordered by name: for `agent_tasks` a namespace `AgentTasksSchema` of what its JSON
 * Schema describes, `AgentTasksItem` with the server's fields too, and in the end `Collections`, which
 * `createClient<Collections>()` of dualstore/client takes.
 */
export async function generateTypes(
  definitions: readonly Pick<CollectionDefinition, 'name' | 'label' | 'schema'>[],
): Promise<string> {
  // The compiler prints what it does on stdout, where the result goes, when somebody has this set for another program.
  delete process.env.VERBOSE
  const { compile } = await import('json-schema-to-typescript')
  const used = new Set<string>()
  const parts: string[] = []
  const members: string[] = []
  for (const { name, label, schema } of definitions.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const type = typeName(name, used)
    const fields = await compile(typeSchema(schema), 'Fields', {
      bannerComment: '',
      // Nothing is left that points outside; should anything be, it is not followed.
      $refOptions: { resolve: { external: false, file: false, http: false } },
      style: { semi: false, singleQuote: true, printWidth: 100 },
    }).catch((cause: Error) => {
      throw new DualstoreError('INVALID_DEFINITION', `no types can be made of ${name}: ${cause.message}`, {
        cause,
      })
    })
    parts.push(`export declare namespace ${type}Schema {\n${indented(fields)}}

/** ${commentText(label)} */
export type ${type}Item = ${type}Schema.Fields & ServerFields
`)
    members.push(`  ${name}: ${type}Item\n`)
  }
  const map = `/** For createClient<Collections>() of dualstore/client. */\nexport interface Collections {\n${members.join('')}}\n`
  return [HEAD, ...parts, map].join('\n')
}

/** `agent_tasks` is AgentTasks. Names that differ in underscores alone are counted apart. */
function typeName(collection: string, used: Set<string>): string {
  const words = collection.split('_').filter((word) => word !== '')
  const plain = words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join('')
  let name = plain
  for (let count = 2; used.has(name); count++) name = `${plain}_${count}`
  used.add(name)
  return name
}

function indented(code: string): string {
  return code
    .trim()
    .split('\n')
    .map((line) => (line === '' ? '\n' : `  ${line}\n`))
    .join('')
}

function commentText(text: string): string {
  return text.replaceAll('*/', '* /').replace(/\s+/g, ' ')
}
