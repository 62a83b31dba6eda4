import { type Finding, ok, problem, warning } from './finding.js'
import { examineFollower } from './followers.js'

/** Looks at a running server through its own /metrics. */
export function examineMetrics(text: string): Finding[] {
  const samples = parse(text)
  const value = (name: string, label?: string) =>
    samples.find((s) => s.name === name && s.label === label)?.value
  const findings: Finding[] = []
  if (value('dualstore_postgres_up') !== 1 || (value('dualstore_breaker_state', 'postgres') ?? 0) > 0) {
    findings.push(problem('postgres', 'the server cannot reach it', 'start it, or correct DATABASE_URL'))
  } else findings.push(ok('postgres', 'answers'))
  if ((value('dualstore_breaker_state', 'postgres_writes') ?? 0) > 0) {
    findings.push(problem('postgres', 'is read-only', 'dualstore doctor on the server tells why'))
  }
  const trouble = samples.find(({ name, value }) => name === 'dualstore_mirror_trouble' && value === 1)
  if (trouble !== undefined || (value('dualstore_breaker_state', 'mirror') ?? 0) > 0) {
    const kind = trouble?.label ?? 'away'
    findings.push(problem('mirror', `cannot be written: ${kind}`, `docs/operations.md, "MongoDB: ${kind}"`))
  }
  for (const { label: id } of samples.filter(({ name }) => name === 'dualstore_follower_position')) {
    if (id === undefined) continue
    const of = (name: string) => value(`dualstore_${name}`, id) ?? 0
    findings.push(
      ...examineFollower({
        id,
        lagChanges: of('follower_lag_changes'),
        lagMs: of('follower_lag_seconds') * 1000,
        led: of('follower_led') === 1,
        failing: of('follower_failing') === 1,
        parked: of('parked_documents'),
      }),
    )
  }
  const slow = value('dualstore_streams_slow') ?? 0
  const open = value('dualstore_streams_open') ?? 0
  findings.push(
    slow > 0
      ? warning(
          'streams',
          `${slow} of ${open} clients do not read`,
          'they are closed after a minute; look at them',
        )
      : ok('streams', `${open} open, all of them read`),
  )
  if ((value('dualstore_pool_connections', 'waiting') ?? 0) > 0) {
    findings.push(warning('pool', 'requests wait for a connection to PostgreSQL', 'raise DATABASE_POOL_SIZE'))
  }
  return findings
}

interface Sample {
  name: string
  /** The value of its only label; undefined when it has none. */
  label: string | undefined
  value: number
}

function parse(text: string): Sample[] {
  return text.split('\n').flatMap((line) => {
    const [, name, label, value] = /^(\w+)(?:\{\w+="([^"]*)"\})? (\S+)$/.exec(line) ?? []
    return name === undefined ? [] : [{ name, label, value: Number(value) }]
  })
}
