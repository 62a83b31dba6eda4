import { classes, type Finding, type FindingClass, type Found, type Report } from './findings.js'

export const HEAD = ['CLASS', 'REQUEST', 'WHERE', 'LEGACY', 'TARGET', 'WHY'] as const

/** Classes that are told without being asked for; the others are counted. */
const TOLD: readonly FindingClass[] = ['breaking']

/** A row for each difference. @param verbose also of what is allowed, and requests without any */
export function rowsOf({ findings }: Report, verbose: boolean): string[][] {
  return findings
    .filter((finding) => verbose || TOLD.includes(finding.class))
    .toSorted((a, b) => classes.indexOf(b.class) - classes.indexOf(a.class))
    .flatMap((finding) => rowsOfFinding(finding, verbose))
}

export function rowsOfFinding(finding: Finding, verbose: boolean): string[][] {
  const told = finding.differences.filter((difference) => verbose || TOLD.includes(difference.class))
  const name = finding.requests > 1 ? `${finding.name} (${finding.requests} times)` : finding.name
  if (told.length === 0) return [[finding.class, name, '', '', '', '']]
  return told.map((difference) => [
    classOf(difference),
    name,
    difference.count > 1 ? `${difference.where} (${difference.count} times)` : difference.where,
    difference.legacy,
    difference.target,
    difference.sentence,
  ])
}

/** "documented fix 5" */
function classOf(difference: Found): string {
  return difference.defect === undefined ? difference.class : `${difference.class} ${difference.defect}`
}

/** What allowed differences there are, a line for each rule with the number of requests. */
export function allowedOf({ findings }: Report): string[][] {
  const counts = new Map<string, { row: string[]; requests: number }>()
  for (const { differences, requests } of findings) {
    const rules = new Map(differences.map((difference) => [difference.rule, difference]))
    for (const [rule, difference] of rules) {
      if (rule === undefined) continue
      const known = counts.get(rule) ?? { row: [classOf(difference), difference.sentence], requests: 0 }
      counts.set(rule, { ...known, requests: known.requests + requests })
    }
  }
  return [...counts.values()].map(({ row: [name = '', sentence = ''], requests }) => [
    name,
    String(requests),
    sentence,
  ])
}

/** The whole report as one page that needs nothing else and runs nothing. */
export function htmlOf(report: Report): string {
  const { compatible, summary, target, reference, variant, notes } = report
  const counts = classes.map((name) => `<td>${summary[name]}</td>`).join('')
  const rows = rowsOf(report, true)
    .map((cells) => {
      const [name = ''] = cells
      const kind = name.split(' ')[0] ?? ''
      return `<tr class="${escaped(kind)}">${cells.map((cell) => `<td>${escaped(cell)}</td>`).join('')}</tr>`
    })
    .join('\n')
  const title = compatible ? 'No breaking difference' : 'Breaking differences'
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>compat-check: ${title}</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 2rem; color: #1b1b1b; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border: 1px solid #ccc; padding: .3rem .5rem; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
tr.breaking td:first-child { background: #f8d0d0; font-weight: bold; }
tr.documented td:first-child { background: #fdf0c4; }
tr.additive td:first-child { background: #dceefb; }
tr.identical td:first-child { background: #dff3df; }
</style>
</head>
<body>
<h1>${title}</h1>
<p>Target: ${escaped(target)}<br>Compared with: ${escaped(reference)}, variant ${escaped(variant)}</p>
<table><tr>${classes.map((name) => `<th>${name}</th>`).join('')}</tr><tr>${counts}</tr></table>
<ul>${notes.map((note) => `<li>${escaped(note)}</li>`).join('')}</ul>
<table>
<tr>${HEAD.map((cell) => `<th>${cell}</th>`).join('')}</tr>
${rows}
</table>
</body>
</html>
`
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? character)
}
