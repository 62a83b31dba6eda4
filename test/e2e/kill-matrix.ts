import { expect, test } from 'vitest'
import { serverIsAvailable } from '../support/mongo.js'
import { type Disturbance, matrixRun } from './support/matrix/run.js'
import { deeds, victims } from './support/matrix/stage.js'

// npm run test:matrix. SEED repeats a run, WRITES and ROUNDS shorten or lengthen it.
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1_000_000))
const writes = Number(process.env.WRITES ?? 50_000)
/** How often each cell of the matrix comes. */
const rounds = Number(process.env.ROUNDS ?? 3)

const cells = victims.flatMap((victim) => deeds.map((deed): Disturbance => [victim, deed]))

test('every victim is killed and stopped, and nothing acknowledged is lost', async ({ skip }) => {
  if (!(await serverIsAvailable())) return skip('no MongoDB')
  console.info(`seed ${seed}`)
  const report = await matrixRun({ seed, writes, disturbances: Array(rounds).fill(cells).flat() })
  const { disturbances, violations, ...counts } = report
  console.table({ ...counts, ...disturbances, violations: violations.length })
  expect(violations).toEqual([])
})
