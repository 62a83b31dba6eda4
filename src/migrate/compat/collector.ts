import { classes, type Finding } from './findings.js'

/** Kinds of requests that are told apart; more are told together. */
const MOST_NAMES = 500
const OTHERS = 'other requests'

export type Collector = ReturnType<typeof createCollector>

/**
 * Gathers what comes out of any number of requests in bounded memory: requests that differ in the same are one
 * finding with their number, and the first of them is the example.
 */
export function createCollector() {
  const kept = new Map<string, Finding>()
  return {
    /** Adds a finding. @returns true when its kind was not there before */
    add(finding: Finding): boolean {
      const name = kept.size < MOST_NAMES ? finding.name : OTHERS
      const signature = finding.differences.map(({ where, kind, rule }) => [where, kind, rule])
      const key = JSON.stringify([
        name,
        finding.reference,
        finding.class,
        kept.size < MOST_NAMES && signature,
      ])
      const known = kept.get(key)
      kept.set(
        key,
        known === undefined
          ? { ...finding, name }
          : { ...known, requests: known.requests + finding.requests },
      )
      return known === undefined
    },

    /** The gravest first. */
    findings(): Finding[] {
      return [...kept.values()].sort((a, b) => classes.indexOf(b.class) - classes.indexOf(a.class))
    },
  }
}
