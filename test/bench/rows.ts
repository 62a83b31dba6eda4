import type { Row } from './report.js'
import { bulk } from './rows/bulk.js'
import { footprint } from './rows/footprint.js'
import { migrate } from './rows/migrate.js'
import { mirror } from './rows/mirror.js'
import { reads } from './rows/reads.js'
import { streams } from './rows/streams.js'
import { writes } from './rows/writes.js'
import type { Stage } from './stage.js'

/** Every group of rows by the name that --only takes, in the order in which they are measured. */
export const groups: Readonly<Record<string, (stage: Stage) => Promise<Row[]>>> = {
  reads,
  writes,
  bulk,
  migrate,
  mirror,
  streams,
  footprint,
}
