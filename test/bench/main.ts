import { mkdir, writeFile } from 'node:fs/promises'
import { Command, Option } from 'commander'
import { machine, document as page, type Row, table } from './report.js'
import { groups } from './rows.js'
import { type Stage, setUp } from './stage.js'

const { quick, json, mongo, only, rounds, seconds, documents, clients } = new Command('npm run bench --')
  .description('Measure the server beside hand-written counterparts; a whole run writes docs/benchmarks.md')
  .option('--quick', 'a minute of it, to see that it works; the figures mean little')
  .option('--json', 'print one JSON document')
  .option('--mongo', "keep the server's mirror in a MongoDB wire server instead of the embedded one")
  .addOption(new Option('--only <group...>', 'measure only these').choices(Object.keys(groups)))
  .option('--rounds <n>', 'rounds of each comparison', Number)
  .option('--seconds <n>', 'seconds of each measurement', Number)
  .option('--documents <n>', 'documents seeded before', Number)
  .addOption(new Option('--clients <n...>', 'clients of streams, each number by itself').argParser(numbers))
  .parse()
  .opts<{
    quick?: true
    json?: true
    mongo?: true
    only?: string[]
    rounds?: number
    seconds?: number
    documents?: number
    clients?: number[]
  }>()

const stage = await setUp({
  rounds: rounds ?? (quick ? 1 : 5),
  seconds: seconds ?? (quick ? 0.5 : 2),
  documents: documents ?? (quick ? 10_000 : 100_000),
  clients: clients ?? (quick ? [100, 1000] : [1000, 10_000]),
  mongo: mongo ?? false,
  say: (line) => console.error(`… ${line}`),
})
try {
  const rows: Row[] = []
  for (const [name, measure] of Object.entries(groups)) {
    if (only === undefined || only.includes(name)) rows.push(...(await measure(stage)))
  }
  await report(rows, stage)
} finally {
  await stage.close()
}

function numbers(text: string, before: number[] = []): number[] {
  return [...before, Number(text)]
}

async function report(rows: readonly Row[], on: Stage): Promise<void> {
  if (json)
    console.log(JSON.stringify({ machine: machine(on), rounds: on.rounds, seconds: on.seconds, rows }))
  else console.log(table(rows))
  // A part of the figures, or figures of a few hundred milliseconds, must not stand in the documentation.
  if (quick || only !== undefined) return
  await mkdir('docs', { recursive: true })
  await writeFile('docs/benchmarks.md', page(rows, on))
}
