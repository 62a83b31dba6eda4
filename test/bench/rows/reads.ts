import type autocannon from 'autocannon'
import { type Process, startProcess } from '../channel.js'
import { SESSION_SIZE, seededId } from '../documents.js'
import { load } from '../load.js'
import { compared, type Row } from '../report.js'
import { type Contestant, inRounds } from '../rounds.js'
import type { Stage } from '../stage.js'

const PATHS = 200
/** Documents that everybody asks for, few enough that all of them are in the cache after a moment. */
const HOT = 1000

/** GET by id and lists over the seeded documents, picked at random, so that no two connections go in step. */
export async function reads(stage: Stage): Promise<Row[]> {
  const { rounds, seconds, documents, server, handwritten, bare, databases } = stage
  const sessions = Math.max(1, Math.floor(documents / SESSION_SIZE))
  const gets = (below: number) => () => some(() => `/api/v1/session_messages/${seededId(random(below))}`)
  const lists = () => some(() => `/api/v1/session_messages?session_id=ses_${random(sessions)}&limit=50`)
  const contestant = (
    name: string,
    server: Process,
    connections: number,
    requests: () => autocannon.Request[],
  ): Contestant => ({ name, run: () => load({ server, connections, seconds, requests }) })

  stage.say('GET by id')
  const hotGets = gets(Math.min(HOT, documents))
  const [hot, memory] = await inRounds(
    [contestant('dualstore', server, 32, hotGets), contestant('bare Fastify', bare, 32, hotGets)],
    rounds,
  )
  // Nothing is in its cache, so that every document comes from PostgreSQL.
  const uncached = await startProcess('dualstore', {
    databaseUrl: databases.unmirrored,
    dualWriteEnabled: false,
    cacheMaxBytes: 0,
  })
  const [cold, plain] = await inRounds(
    [
      contestant('dualstore', uncached, 32, gets(documents)),
      contestant('Fastify + pg', handwritten, 32, gets(documents)),
    ],
    rounds,
  ).finally(() => uncached.stop())
  stage.say('list')
  const [list, plainList] = await inRounds(
    [contestant('dualstore', server, 16, lists), contestant('Fastify + pg', handwritten, 16, lists)],
    rounds,
  )
  return [
    compared('GET by id, hot, c=32', 'requests/s', hot, memory, 0.9),
    compared('GET by id, cold, c=32', 'requests/s', cold, plain, 0.9),
    compared('list of 50 by filter with exact total, c=16', 'requests/s', list, plainList, 3),
  ]
}

function some(path: () => string): autocannon.Request[] {
  return Array.from({ length: PATHS }, () => ({ method: 'GET', path: path() }))
}

function random(below: number): number {
  return Math.floor(Math.random() * below)
}
