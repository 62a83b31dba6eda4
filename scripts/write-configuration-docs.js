// Writes docs/configuration.md from the declaration of the settings: npm run build, then this. A test holds the file
// to the declaration and names this command when it is stale.
import { writeFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const file = new URL('../docs/configuration.md', import.meta.url)

/** The text of docs/configuration.md for what src/server/config declares. */
export function render({ settings, dormant, flagOf }) {
  const groups = grouped(settings)
  const sections = [...groups].map(([group, entries]) => {
    const rows = entries.map(([key, setting]) => row(key, setting, flagOf(key), dormant.includes(key)))
    return `## ${group}\n\n| setting | flag | environment | default | allowed | |\n|---|---|---|---|---|---|\n${rows.join('\n')}\n`
  })
  return `${INTRODUCTION}\n${sections.join('\n')}`
}

const INTRODUCTION = `# Configuration

<!-- Generated from src/server/config/settings.ts: npm run build && node scripts/write-configuration-docs.js -->

Each setting can be given in four ways. The first that has a value decides:

1. a flag on the command line, such as \`--port 8080\`;
2. an environment variable; of several names the first counts, and an empty variable counts as not given;
3. the file \`dualstore.config.json\`, \`.yaml\` or \`.yml\` in the working directory, or the one given: one object with
   the setting's name as the key, such as \`port: 8080\`;
4. the default.

A value that is not allowed stops the program at start, with the name of the setting, the value and what is allowed.
So does an unknown key in the file. \`dualstore config\` prints the effective values and where each comes from; of
secrets it shows only that they are set, and of connection strings no password.

*Without effect* marks settings of a legacy configuration that are read and checked, but do nothing in this version.
The program names them at start.
`

function row(key, { kind, default: fallback, env, help, secret }, flag, isDormant) {
  const notes = [help, secret === undefined ? '' : 'Secret.', isDormant ? '*Without effect.*' : '']
  const cells = [
    code(key),
    code(flag),
    env.map(code).join(', '),
    fallback === undefined ? '' : code(String(fallback)),
    kind.allowed,
    notes.filter((note) => note !== '').join(' '),
  ]
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
}

function code(text) {
  return `\`${text}\``
}

// Map.groupBy would do it, from Node 21 on.
function grouped(settings) {
  const groups = new Map()
  for (const entry of Object.entries(settings)) {
    const group = entry[1].group
    groups.set(group, [...(groups.get(group) ?? []), entry])
  }
  return groups
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  writeFileSync(file, render(await import('../dist/src/server/config/index.js')))
}
