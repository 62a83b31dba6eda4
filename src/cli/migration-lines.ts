import type { Plan } from '../migrate/plan.js'
import type { MigrationReport, MigrationStatus } from '../migrate/report.js'
import { differencesIn, noVerifyCounts, sumOfVerified, type VerifyCounts } from '../migrate/verify/counts.js'
import type { MigrationVerification } from '../migrate/verify.js'
import type { SourceFinding } from '../server/services/migrations.js'
import { counted, number, printable, say, type Table } from './output.js'
import { duration } from './progress.js'

const KEYS = ['read', 'created', 'replaced', 'unchanged', 'merged', 'quarantined'] as const
type Counted = Record<(typeof KEYS)[number], number>

/** The counts of each collection, and of all when there are several. */
export function countsTable(all: Counted, collections: Readonly<Record<string, Counted>>): Table {
  const row = (name: string, counts: Counted) => [name, ...KEYS.map((key) => counts[key])]
  const rows = Object.entries(collections).map(([name, counts]) => row(name, counts))
  return {
    head: ['COLLECTION', ...KEYS.map((key) => key.toUpperCase())],
    rows: rows.length === 1 ? rows : [...rows, row('all', all)],
  }
}

export function reportText(report: MigrationReport): (string | Table)[] {
  return [countsTable(report, report.collections), ...odditiesTable(report.oddities)]
}

export function planText(plan: Plan): (string | Table)[] {
  const oddities: Table = {
    head: ['ODDITY', 'DOCUMENTS', 'EXAMPLES'],
    rows: Object.entries(plan.oddities)
      .sort(([, a], [, b]) => b.documents - a.documents)
      .map(([kind, { documents, examples }]) => [kind, documents, examples.join(' ')]),
  }
  const refused: Table = {
    head: ['COLLECTION', 'QUARANTINED', 'REASON', 'EXAMPLES'],
    rows: plan.quarantine.map((one) => [one.collection, one.documents, one.reason, one.examples.join(' ')]),
  }
  return [
    countsTable(plan, plan.collections),
    ...[oddities, refused].filter(({ rows }) => rows.length > 0),
    ...plan.differences,
  ]
}

/** What an operator should know of a plan beside its counts, on stderr. */
export function sayPlan(plan: Plan): void {
  if (!plan.complete)
    say(`note: only ${number(plan.read)} of ${counted(plan.documents, 'document')} were read`)
  say(
    `nothing was written. ${counted(plan.documents, 'document')} would take about ` +
      `${duration(plan.estimated_seconds)}; ${number(plan.rate)}/s were read and understood`,
  )
}

export function statusText(status: MigrationStatus): (string | Table)[] {
  const rows = Object.entries(status.collections).map(([name, one]) => [
    name,
    one.documents,
    ...KEYS.map((key) => one[key]),
    one.done ? 'yes' : 'no',
  ])
  const head = ['COLLECTION', 'DOCUMENTS', ...KEYS.map((key) => key.toUpperCase()), 'DONE']
  const events: Table = {
    head: ['AT', 'FROM', 'TO', 'BY', 'NOTE'],
    rows: status.events.map(({ at, from, to, by, note }) => [at, from, to, by, note]),
  }
  return [statusLine(status), { head, rows }, events, ...(status.error ? [status.error.message] : [])]
}

/** A status in one line. */
export function statusLine({
  id,
  source,
  state,
  pass,
  read,
  runner,
  lag,
  stragglers,
}: MigrationStatus): string {
  return [
    `${id} from ${source.name}: ${state}`,
    `pass ${pass}`,
    `${number(read)} read`,
    runner === null ? 'nobody runs it' : `run by ${runner}`,
    ...(lag === null ? [] : [lagText(lag)]),
    ...(stragglers === null ? [] : [`${counted(stragglers, 'document')} came after the cut-over`]),
  ].join(', ')
}

export function lagText({ behind, seconds }: { behind: number; seconds: number }): string {
  return `lag ${counted(behind, 'document')}, ${number(seconds)} s`
}

function odditiesTable(oddities: Readonly<Record<string, number>>): Table[] {
  const rows = Object.entries(oddities).sort(([, a], [, b]) => b - a)
  return rows.length === 0 ? [] : [{ head: ['ODDITY', 'DOCUMENTS'], rows }]
}

/** The counts of each collection. */
export function verificationText({ source }: MigrationVerification): Table[] {
  const keys = Object.keys(noVerifyCounts()) as (keyof VerifyCounts)[]
  const rows = Object.entries(source).map(([name, counts]) => [name, ...keys.map((key) => counts[key])])
  return [{ head: ['COLLECTION', ...keys.map((key) => key.toUpperCase())], rows }]
}

/** A difference in one line. */
export function findingText(finding: SourceFinding): string {
  const { kind, collection, id, source_id, reason, differences = [] } = finding
  const places = differences.map(({ path, source, stored }) => `${path}: ${source ?? '–'} | ${stored ?? '–'}`)
  return [kind, `${collection}/${id ?? source_id}`, reason, ...places].map(printable).join('\t')
}

/** What an operator should know of a verification beside its counts, on stderr. */
export function sayVerification({ clean, source, mirror, not_checked }: MigrationVerification): void {
  const differences = differencesIn(sumOfVerified(Object.values(source)))
  if (differences > 0) say(`${counted(differences, 'document')} differ between the source and PostgreSQL`)
  if ('agree' in mirror && !mirror.agree)
    say('PostgreSQL and the mirror differ: "dualstore verify" names where')
  for (const what of not_checked) say(`not checked: ${printable(what)}`)
  say(clean ? 'clean: what was checked is the same' : 'not clean')
}
