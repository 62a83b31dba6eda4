import type { Static, TSchema } from 'typebox'
import { Type } from './type.js'

const nullable = <T extends TSchema>(schema: T, description?: string) =>
  Type.Union([schema, Type.Null()], description === undefined ? {} : { description })
const time = Type.String({ format: 'date-time' })

/** How far a rebuild has come. */
const RebuildStatus = Type.Object({
  id: Type.String(),
  from: Type.String({ description: "The log's end when it was asked for" }),
  phase: Type.Union([Type.Literal('write'), Type.Literal('sweep'), Type.Literal('done')], {
    description:
      'write: every document goes to the mirror; sweep: what PostgreSQL no longer has goes from it',
  }),
  collection: nullable(Type.String()),
  written: Type.Integer({ description: 'Documents' }),
  removed: Type.Integer({ description: 'Documents that PostgreSQL no longer had' }),
  retried: Type.Integer({ description: 'Parked documents that the mirror has now' }),
  refused: Type.Integer({ description: 'Documents that the mirror cannot take; they are parked' }),
  total: Type.Integer({ description: 'About how many documents there are to write; 0 when nobody knows' }),
  requested_by: Type.String(),
  requested_at: time,
  started_at: nullable(time),
  finished_at: nullable(time),
})

/** A mirror as every instance tells it. All times and ages are by PostgreSQL's clock. */
export const MirrorStatus = Type.Object({
  name: Type.String(),
  kind: nullable(Type.String(), 'mongodb or embedded; null before its first leader'),
  state: Type.Union(
    [
      Type.Literal('running'),
      Type.Literal('paused'),
      Type.Literal('lost'),
      Type.Literal('rebuilding'),
      Type.Literal('down'),
    ],
    {
      description:
        'lost: the log no longer has what it lacks, only a rebuild brings it back; down: it does not take changes, or no server leads it',
    },
  ),
  reason: nullable(Type.String()),
  since: Type.String({
    format: 'date-time',
    description: 'Since when it has been ordered to run or to pause',
  }),
  by: nullable(Type.String(), 'Who ordered that'),
  position: Type.String(),
  head: Type.String({ description: "The log's end" }),
  lag: Type.Object({
    changes: Type.Integer(),
    seconds: Type.Number({
      description: 'Since the oldest change that it lacks was committed; 0 when it lacks none',
    }),
  }),
  rate: Type.Object(
    { applied: nullable(Type.Number()), written: nullable(Type.Number()) },
    { description: 'Changes a second over the last minute; null when no leader has told lately' },
  ),
  catch_up_seconds: nullable(Type.Integer(), 'null when it falls behind, or nobody can tell'),
  heartbeat: nullable(
    Type.Object({ at: time, age_seconds: Type.Number() }),
    'When its leader last told how it gets on, which it does every second',
  ),
  leader: nullable(
    Type.Object({
      instance: Type.String(),
      host: nullable(Type.String()),
      term: Type.Integer(),
      lease_until: time,
    }),
  ),
  last_error: nullable(Type.Object({ message: Type.String(), at: time }), 'Kept when things work again'),
  parked: Type.Integer({ description: 'Documents that it cannot take' }),
  rebuild: nullable(RebuildStatus, 'The one under way, or the last one'),
})

export const Overview = Type.Object({
  head: Type.String({ description: "The log's end" }),
  floor: Type.String({ description: 'Changes up to here are no longer in the log' }),
  mirrors: Type.Array(MirrorStatus),
})

/** What became of a position that was set. */
export const Moved = Type.Object({
  from: Type.String(),
  to: Type.String(),
  skipped: Type.Integer({ description: 'Changes that are not applied' }),
  replayed: Type.Integer({ description: 'Changes that are applied again' }),
  mirror: MirrorStatus,
})

export type MirrorStatus = Static<typeof MirrorStatus>
export type Overview = Static<typeof Overview>
export type Moved = Static<typeof Moved>
