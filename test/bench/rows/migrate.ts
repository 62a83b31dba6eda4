import { compared, type Row } from '../report.js'
import { inRounds, withCpu } from '../rounds.js'
import type { Stage } from '../stage.js'
import { plainBulk } from './bulk.js'

/** Documents a second into PostgreSQL, log, counts and checkpoints included (design of the benchmark's targets). */
const TARGET = 30_000
/** About a second's worth. */
const DOCUMENTS = 30_000

/** A migration from a legacy database, with whatever the source itself costs left out. */
export async function migrate(stage: Stage): Promise<Row[]> {
  const { rounds, seconds, migrating } = stage
  const count = Math.round(DOCUMENTS * Math.min(1, seconds))
  stage.say('migrate')
  const [ours, plain] = await inRounds(
    [
      {
        name: 'dualstore',
        run: () =>
          withCpu(migrating, async () => ({ count, rate: await migrating.call<number>('migrate', count) })),
      },
      plainBulk(stage),
    ],
    rounds,
  )
  return [
    compared('migrate: BSON of legacy documents into documents and log', 'documents/s', ours, plain, {
      atLeast: TARGET,
    }),
  ]
}
