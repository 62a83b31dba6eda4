import { duration, type Finding, ok, problem, warning } from './finding.js'

/** How a follower stands, wherever that is known from. */
export interface FollowerFacts {
  id: string
  lagChanges: number
  lagMs: number
  led: boolean
  /** True or why, while its last attempt failed. */
  failing: boolean | string
  parked: number
}

/** From here on a follower that lags is worth a look. */
const LAG_MS = 60_000

export function examineFollower(follower: FollowerFacts): Finding[] {
  const { id, lagChanges, lagMs, led, failing, parked } = follower
  const check = `follower ${id}`
  const lag = `${lagChanges} changes, ${duration(lagMs)} behind`
  const findings: Finding[] = []
  if (failing !== false) {
    const why = typeof failing === 'string' ? `: ${failing}` : ''
    findings.push(problem(check, `does not get on${why}`, 'mend what it reports; it goes on by itself'))
  }
  if (!led && lagChanges > 0) {
    findings.push(problem(check, `nobody leads it, ${lag}`, 'dualstore serve (or dualstore mirror resume)'))
  } else if (lagMs > LAG_MS && failing === false) {
    findings.push(warning(check, lag, 'dualstore mirror status --watch'))
  }
  if (parked > 0) {
    findings.push(
      problem(check, `${parked} documents are parked: the mirror cannot take them`, 'dualstore parked list'),
    )
  }
  return findings.length > 0 ? findings : [ok(check, led ? lag : `${lag}, no server leads it now`)]
}
