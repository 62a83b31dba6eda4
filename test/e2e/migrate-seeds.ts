import { test } from 'vitest'
import { checkSeed } from '../support/migration.js'

// npm run test:migrate. SEEDS and DOCUMENTS (of each collection) make it smaller; FIRST repeats one.
const first = Number(process.env.FIRST ?? 1)
const seeds = Number(process.env.SEEDS ?? 100)
const documents = Number(process.env.DOCUMENTS ?? 300)

test.each(Array.from({ length: seeds }, (_, index) => first + index))('seed %i', (seed) =>
  checkSeed(seed, documents),
)
