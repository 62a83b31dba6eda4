import type { MirrorStatus } from '../server/schemas/mirrors.js'
import { number, printable, say, type Table } from './output.js'
import { duration } from './progress.js'

/** Orders wait for a server; whoever gives one should know when there is none. */
export function sayNoLeader({ leader, state }: MirrorStatus): void {
  if (leader === null && state !== 'paused')
    say('note: no server leads it now; it is done when one runs on these stores (dualstore serve)')
}

/** One row a mirror. */
export function mirrorTable(mirrors: readonly MirrorStatus[]): Table {
  return {
    head: ['MIRROR', 'STATE', 'POSITION', 'BEHIND', 'APPLIED', 'WRITTEN', 'CAUGHT UP', 'LEADER', 'PARKED'],
    rows: mirrors.map((mirror) => [
      mirror.kind === null ? mirror.name : `${mirror.name} (${mirror.kind})`,
      mirror.state,
      mirror.position,
      behind(mirror),
      rate(mirror.rate.applied),
      rate(mirror.rate.written),
      caughtUp(mirror),
      mirror.leader === null ? 'none' : (mirror.leader.host ?? mirror.leader.instance),
      number(mirror.parked),
    ]),
  }
}

/** What the table has no room for. */
export function mirrorNotes(mirrors: readonly MirrorStatus[]): string[] {
  return mirrors.flatMap(({ name, reason, rebuild, last_error }) => [
    ...(reason === null ? [] : [`${name}: ${printable(reason)}`]),
    ...(rebuild === null ? [] : [`${name}: ${rebuildLine(rebuild)}`]),
    ...(last_error === null || last_error.message === reason
      ? []
      : [`${name}: the last error was at ${last_error.at}: ${printable(last_error.message)}`]),
  ])
}

/** A mirror in one line, for output that only grows. */
export function mirrorLine(mirror: MirrorStatus): string {
  const { name, state, position, reason, rebuild, parked } = mirror
  return [
    `${name} is ${state}${reason === null ? '' : ` (${printable(reason)})`}`,
    position,
    behind(mirror),
    `applied ${rate(mirror.rate.applied)}`,
    ...(mirror.lag.changes === 0 ? [] : [`caught up: ${caughtUp(mirror)}`]),
    ...(parked === 0 ? [] : [`${number(parked)} parked`]),
    ...(rebuild === null || rebuild.phase === 'done' ? [] : [rebuildLine(rebuild)]),
  ].join(', ')
}

function rebuildLine(rebuild: NonNullable<MirrorStatus['rebuild']>): string {
  const { phase, collection, written, total, removed, retried, refused, finished_at } = rebuild
  const counts = [
    `${number(written)}${phase === 'write' && total > 0 ? ` of about ${number(total)}` : ''} written`,
    `${number(removed)} removed`,
    `${number(retried)} of the parked ones settled`,
    `${number(refused)} refused`,
  ].join(', ')
  if (finished_at !== null) return `rebuilt at ${finished_at}: ${counts}`
  if (collection === null) return `rebuild: waits to begin`
  return `rebuild: ${phase === 'write' ? 'writing' : 'sweeping'} ${collection}; ${counts}`
}

function behind({ lag }: MirrorStatus): string {
  return lag.changes === 0 ? 'nothing' : `${number(lag.changes)}, ${duration(lag.seconds)}`
}

function rate(perSecond: number | null): string {
  return perSecond === null ? 'unknown' : `${number(perSecond)}/s`
}

function caughtUp({ catch_up_seconds: seconds, rate }: MirrorStatus): string {
  if (seconds !== null) return seconds === 0 ? 'now' : `in ${duration(seconds)}`
  return rate.applied === null ? 'unknown' : 'never at these rates'
}
