import { alone, compared, type Row } from '../report.js'
import { inRounds, summarise } from '../rounds.js'
import type { Stage } from '../stage.js'

const LAG_P99_MS = 250
const FOLLOWER_RATE = 20_000

/** The mirror's follower: how fast it drains the log into a MongoDB and into nothing, and how far it stays behind. */
export async function mirror(stage: Stage): Promise<Row[]> {
  const { rounds, seconds, follower, mongodb } = stage
  const idle = Math.round(20_000 * Math.min(1, seconds))
  const count = Math.round(1500 * seconds)
  await follower.call('append', idle)
  stage.say('follower')
  const sample = async (call: string, changes: number) => ({
    rate: await follower.call<number>(call, changes),
  })
  const [nothing] = await inRounds([{ name: 'follower', run: () => sample('idle', idle) }], rounds)
  const rows = [
    alone('follower with a mirror that does nothing', 'changes/s', nothing, { atLeast: FOLLOWER_RATE }),
  ]
  if (mongodb === undefined) return rows

  stage.say('mirror')
  const [catchUp, bare] = await inRounds(
    [
      { name: 'mirror', run: () => sample('catchUp', count) },
      { name: 'bare bulkWrite', run: () => sample('bulkWrite', count) },
    ],
    rounds,
  )
  rows.push(compared('mirror catch-up', 'documents/s', catchUp, bare, 0.8))
  const rate = Math.round((catchUp?.rate ?? 0) / 2)
  const lag = await follower.call<{ rate: number; p50: number; p99: number }>('lag', {
    rate,
    seconds: seconds * 2,
  })
  rows.push(
    alone('mirror lag at half that rate', 'documents/s', summarise('mirror', [lag]), {
      p99Below: LAG_P99_MS,
    }),
  )
  return rows
}
