import { arch, cpus, platform, totalmem } from 'node:os'
import { ratio, type Summary } from './rounds.js'
import type { Stage } from './stage.js'

/** What a row must reach; a number is a ratio to the counterpart, "times" that p50 and p99 are not behind its. */
export type Target = number | { atLeast: number } | { below: number } | { p99Below: number } | 'times'

/** By how much two figures differ on a shared machine without meaning anything. */
const NOISE = 1.15

/** One line of the report. */
export interface Row {
  what: string
  unit: string
  target: string
  /** Whether the target was reached in this run; undefined when there is none. */
  met: boolean | undefined
  ours: Summary
  counterpart?: Summary
  /** Median of the rounds' ratios. */
  ratio?: number
}

export function compared(
  what: string,
  unit: string,
  ours: Summary | undefined,
  counterpart: Summary | undefined,
  target?: Target,
): Row {
  if (counterpart === undefined) throw new Error(`${what}: nothing to compare with`)
  const row = alone(what, unit, ours, target)
  const relative = ratio(row.ours, counterpart)
  return {
    ...row,
    counterpart,
    ratio: relative,
    ...(typeof target === 'number' && { met: relative >= target }),
    ...(target === 'times' && { met: !isBehind(row.ours, counterpart) }),
  }
}

function isBehind(ours: Summary, other: Summary): boolean {
  return (['p50', 'p99'] as const).some((time) => (ours[time] ?? 0) > (other[time] ?? 0) * NOISE)
}

export function alone(what: string, unit: string, ours: Summary | undefined, target?: Target): Row {
  if (ours === undefined) throw new Error(`${what}: nothing was measured`)
  const { rate, p99 = Number.NaN } = ours
  const row = (text: string, met?: boolean): Row => ({ what, unit, target: text, met, ours })
  if (target === undefined) return row('')
  if (typeof target === 'number') return row(`≥ ${target} ×`)
  if (target === 'times') return row('p50, p99 not behind')
  if ('atLeast' in target) return row(`≥ ${number(target.atLeast)}`, rate >= target.atLeast)
  if ('below' in target) return row(`< ${number(target.below)}`, rate < target.below)
  return row(`p99 < ${target.p99Below} ms`, p99 < target.p99Below)
}

/** The machine, in what matters to the figures and says nothing about whose it is. */
export function machine({ postgresVersion }: Stage) {
  const processors = cpus()
  return {
    cpu: processors[0]?.model.trim() ?? 'unknown',
    cores: processors.length,
    memoryGiB: Math.round(totalmem() / 1024 ** 3),
    system: `${platform()} ${arch()}`,
    node: process.versions.node,
    postgres: postgresVersion.split(' ')[0] ?? '',
  }
}

export function table(rows: readonly Row[]): string {
  const lines = rows.map((row) =>
    [
      row.what,
      row.target,
      `${number(row.ours.rate)} ${row.unit}${times(row.ours)}`,
      row.counterpart === undefined
        ? ''
        : `${row.counterpart.name}: ${number(row.counterpart.rate)}${times(row.counterpart)}`,
      row.ratio === undefined ? '' : `${row.ratio.toFixed(2)} ×`,
      row.met === undefined ? '' : row.met ? 'yes' : 'no',
    ].join(' | '),
  )
  return [
    '| what | target | dualstore | counterpart | ratio | reached |',
    '|---|---|---|---|---|---|',
    ...lines.map((line) => `| ${line} |`),
  ].join('\n')
}

export function document(rows: readonly Row[], stage: Stage): string {
  const { cpu, cores, memoryGiB, system, node, postgres } = machine(stage)
  return `# Benchmarks

Written by \`npm run bench\`; not edited by hand. [tuning.md](tuning.md) has what was tried, what helped and what did not.

Machine: ${cpu}, ${cores} cores, ${memoryGiB} GiB, ${system}; Node ${node}, PostgreSQL ${postgres}. The load generator runs on
the same machine as the servers and PostgreSQL, so the figures are low and the ratios count: each is the median over
${stage.rounds} rounds of both sides' rates in the same round, every side running ${stage.seconds} s a round. Differences under 15 % are noise.
In brackets: p50 and p99 as a client sees them, and the server process's CPU time for one request or document.

${table(rows)}

[tuning.md](tuning.md) tells what was tried to reach these.

## What is compared

- ${stage.documents.toLocaleString('en')} documents of about 350 bytes are seeded into every database before anything is measured, in sessions
  of 1,000. All databases are on one embedded PostgreSQL with fsync and synchronous_commit on.
- dualstore runs as \`dualstore serve\` does, its mirror ${stage.mongo ? 'in a MongoDB wire server' : 'embedded'}. Rows that say "log included" run with
  \`DUAL_WRITE_ENABLED=false\`, because their counterpart has no second store; the rows below them have the mirror on.
- "bare Fastify" answers GET by id with text from a Map, for any id. Hot: everybody asks for the same 1,000 documents,
  which are in dualstore's cache. Cold: dualstore's cache is off, and every document is read from PostgreSQL.
- "Fastify + pg" is CRUD written by hand on one jsonb table with the same indexes: no log, no mirror, no ETag, no
  conditional writes, only required fields checked. Its bulk insert is one \`INSERT … SELECT FROM unnest\` for a request of
  500 documents, with 4 clients.
- Migration: BSON of legacy messages, made beforehand and with new ids each time, goes the way that
  \`migrate-from-dualstore-http\` takes: decoded, understood, and taken in with log, counts and checkpoints. Its
  counterpart has its items ready.
- "bare bulkWrite" upserts the same legacy documents, made beforehand, by \`_id\` in bulks of 500 into the same MongoDB
  wire server with the same indexes and \`w: majority, j: true\`. The mirror does that behind reading the log, turning
  items into the legacy shape, and conditions on the position.
- Streams: clients on raw sockets in a process of their own; every document that is written goes to all of them. "of n"
  is what was due, so that less means saturation. Times are from the start of the write's request to the receipt,
  of every tenth or hundredth client; CPU time is for one event to one client.
- "node:http broadcast" inserts into one table and then writes the event to every response of its own process. It has
  no log, no resume, no filter, no bound for a slow client, and knows nothing of other instances.
- Mirror lag is the time from a write's acknowledgement by PostgreSQL to that by MongoDB.
`
}

function times({ p50, p99, cpu }: Summary): string {
  const parts = [
    ...(p50 === undefined || p99 === undefined ? [] : [`${precise(p50)}, ${precise(p99)} ms`]),
    ...(cpu === undefined ? [] : [`${precise(cpu)} µs CPU`]),
  ]
  return parts.length === 0 ? '' : ` (${parts.join('; ')})`
}

function precise(value: number): string {
  return value < 10 ? value.toFixed(2) : value.toFixed(0)
}

function number(value: number): string {
  return Math.round(value).toLocaleString('en')
}
