import type { Process } from '../channel.js'
import { messages } from '../documents.js'
import { load } from '../load.js'
import { compared, type Row } from '../report.js'
import { type Contestant, inRounds } from '../rounds.js'
import type { Stage } from '../stage.js'

/** POST of single documents. The mirror is let to catch up between runs, so that its work falls on no other. */
export async function writes(stage: Stage): Promise<Row[]> {
  const { rounds, seconds, server, unmirrored, handwritten, mirrored } = stage
  const requests = messages(100).map((item) => ({
    method: 'POST' as const,
    path: '/api/v1/session_messages',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(item),
  }))
  const rows: Row[] = []
  for (const { connections, target } of [
    { connections: 1, target: 1 },
    { connections: 64, target: 3 },
  ]) {
    stage.say(`POST at ${connections}`)
    const contestant = (name: string, server: Process): Contestant => ({
      name,
      run: () => load({ server, connections, seconds, requests: () => requests }),
    })
    const [log, all, plain] = await inRounds(
      [
        contestant('dualstore', unmirrored),
        { ...contestant('dualstore', server), settle: mirrored },
        contestant('Fastify + pg', handwritten),
      ],
      rounds,
    )
    const what = `POST, ${connections} client${connections === 1 ? '' : 's'}, log included`
    rows.push(
      compared(what, 'requests/s', log, plain, target),
      compared(`${what}, mirror following in the same process`, 'requests/s', all, plain),
    )
  }
  return rows
}
