import type { Static } from 'typebox'
import { CollectionName } from './collection.js'
import { Type } from './type.js'
import { storableText } from './wire.js'

const Time = Type.String({ format: 'date-time' })
const orNull = <T extends Parameters<typeof Type.Union>[0][number]>(type: T) =>
  Type.Union([type, Type.Null()])

const auditOptions = {
  collections: Type.Optional(
    Type.Array(CollectionName, { minItems: 1, description: 'Every collection without it' }),
  ),
  rate: Type.Optional(Type.Number({ minimum: 1, description: 'Documents a second at most' })),
}

export const VerifyBody = Type.Object(
  {
    ...auditOptions,
    sample: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 1,
        description: 'Share of the key ranges to look at; chosen at random',
      }),
    ),
  },
  { additionalProperties: false },
)

export const RepairBody = Type.Object(
  {
    ...auditOptions,
    apply: Type.Optional(
      Type.Boolean({ default: false, description: 'false only tells what would be repaired' }),
    ),
  },
  { additionalProperties: false },
)

export const JobKind = Type.Union([Type.Literal('verify'), Type.Literal('repair')])
const JobState = Type.Union([
  Type.Literal('queued'),
  Type.Literal('running'),
  Type.Literal('done'),
  Type.Literal('failed'),
  Type.Literal('cancelled'),
])

export const JobsQuery = Type.Object({
  kind: Type.Optional(JobKind),
  limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
})

export const JobParams = Type.Object({ id: Type.String({ pattern: '^[\\w-]{1,100}$' }) })

const Counts = {
  documents: Type.Integer({ description: 'Documents in PostgreSQL that were compared' }),
  skipped: Type.Integer({ description: 'Documents that the sample left out' }),
  chunks: Type.Integer(),
  differing_chunks: Type.Integer({ description: 'Key ranges whose hashes differed' }),
  missing: Type.Integer(),
  extra: Type.Integer(),
  different: Type.Integer(),
  parked: Type.Integer(),
  unsettled: Type.Integer({ description: 'On their way to the mirror all the time' }),
  foreign: Type.Integer({ description: "Other programs' documents; no difference" }),
  repaired: Type.Integer(),
  failed: Type.Integer({ description: 'Could not be repaired' }),
}

const JobProgress = Type.Object({
  collection: Type.String({ description: 'Under way' }),
  documents: Type.Integer({ description: 'Done so far, those that a sample left out among them' }),
  estimate: Type.Integer({ description: 'Of all there is to do' }),
  found: Type.Integer({ description: 'Documents that are not alike on both sides, so far' }),
})

const JobResult = Type.Object({
  agree: Type.Boolean({ description: 'Nothing is missing, extra, different, parked or unsettled any more' }),
  ...Counts,
  collections: Type.Record(Type.String(), Type.Object(Counts)),
  not_checked: Type.Array(Type.String(), { description: 'What the result says nothing about' }),
  listed: Type.Integer({ description: 'Findings that are kept; all are counted' }),
})

export const JobAnswer = Type.Object({
  id: Type.String(),
  kind: JobKind,
  state: JobState,
  options: Type.Object({}, { additionalProperties: true }),
  progress: orNull(JobProgress),
  result: orNull(JobResult),
  error: orNull(
    Type.Object(
      { code: Type.String(), message: Type.String() },
      { description: 'Of what it waits for, too' },
    ),
  ),
  cancel_requested: Type.Boolean(),
  started_by: Type.String(),
  created_at: Time,
  started_at: orNull(Time),
  finished_at: orNull(Time),
})

const DifferenceSchema = Type.Object({
  path: Type.String(),
  ours: Type.Optional(Type.String({ description: 'What PostgreSQL has, as short JSON' })),
  theirs: Type.Optional(Type.String({ description: 'What the mirror has' })),
})

export const ParkedQuery = Type.Object({
  collection: Type.Optional(CollectionName),
  limit: Type.Integer({ minimum: 1, maximum: 1000, default: 100 }),
  after: Type.Optional(
    storableText({ maxLength: 1024, description: 'Behind this one: `<collection>/<id>` of the last one' }),
  ),
})

export const ParkedParams = Type.Object({
  collection: storableText(),
  id: storableText(),
})

export const ParkedAnswer = Type.Object({
  collection: Type.String(),
  id: Type.String(),
  seq: Type.Integer({ description: 'Position of the change that was refused first' }),
  reason: Type.String(),
  attempts: Type.Integer(),
  retrying: Type.Boolean({ description: 'A retry is under way, or was cut off' }),
  parked_at: Time,
})

export const ParkedDetailAnswer = Type.Object({
  ...ParkedAnswer.properties,
  document: orNull(
    Type.Object({ version: Type.Integer(), item: Type.Object({}, { additionalProperties: true }) }),
  ),
  mirrored: orNull(Type.Object({}, { additionalProperties: true })),
  differences: Type.Array(DifferenceSchema),
})

export const RetryAnswer = Type.Object({
  collection: Type.String(),
  id: Type.String(),
  outcome: Type.Union([Type.Literal('applied'), Type.Literal('parked')]),
  reason: Type.Optional(Type.String()),
})

export const RemoveForeignBody = Type.Object(
  {
    lines: Type.Array(Type.String({ minLength: 2 }), {
      maxItems: 1000,
      description: 'Lines of the list of foreign documents, unchanged',
    }),
  },
  { additionalProperties: false },
)

export type JobAnswer = Static<typeof JobAnswer>
export type JobResult = Static<typeof JobResult>
export type ParkedAnswer = Static<typeof ParkedAnswer>
export type ParkedDetailAnswer = Static<typeof ParkedDetailAnswer>
