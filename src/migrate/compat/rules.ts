import type { Compared } from './compare.js'
import { parsed } from './exchange.js'
import { MADE_UP_ID } from './routes.js'
import { type Difference, isEmpty, isFields, itemsOf, member } from './values.js'

export type DifferenceClass = 'additive' | 'documented fix' | 'breaking'

/** What is known of both servers before anything is compared. */
export interface Facts {
  /** Collections of which the legacy lists show only the newest documents (defect 3). */
  capped: ReadonlySet<string>
  /** Collections in which the legacy server holds several documents of one id (defect 1). */
  duplicated: ReadonlySet<string>
  /** The target is asked with a key and the legacy server without a token. */
  keyOnTargetOnly: boolean
}

/** A reason for a difference to be allowed. */
export interface Rule {
  name: string
  class: Exclude<DifferenceClass, 'breaking'>
  /** Its number in the legacy contract, section 9, and in docs/migration.md. */
  defect?: number
  sentence: string
  explains(difference: Difference, compared: Compared, facts: Facts): boolean
}

/** A difference with what it means. */
export interface Classified extends Difference {
  class: DifferenceClass
  rule: string | undefined
  defect: number | undefined
  sentence: string
}

const VALUES = /^body\.(data(\.length|\[\].*)?|pagination\.(total|has_more))$/
const OBJECT_FIELD = /^body\.data(\[\])?\.(metadata|input_data|output_data|event_data)$/

const isError = (status: number) => status >= 400 && status < 500
const listed = ({ route }: Compared, collections: ReadonlySet<string>) =>
  route.kind === 'list' && collections.has(route.collection)
/** In this order: the first that explains a difference says what it means. What none explains is breaking. */
export const rules: readonly Rule[] = [
  {
    name: 'an update is the next version',
    class: 'documented fix',
    defect: 1,
    sentence:
      'An update was a second insert, and reads by id gave the oldest document; the newest is the true one.',
    explains: ({ where }, compared, { duplicated }) => {
      if (listed(compared, duplicated)) return VALUES.test(where)
      const [was, is] = [compared.legacy, compared.target].map(({ body }) =>
        member(body, 'data', 'updated_at'),
      )
      return (
        compared.route.kind === 'item' &&
        where.startsWith('body.data.') &&
        Date.parse(String(was)) < Date.parse(String(is))
      )
    },
  },
  {
    name: 'ids of lists answer',
    class: 'documented fix',
    defect: 2,
    sentence:
      'Lists made up an id for each item on each request, which answered 404; now it is the id of the document.',
    explains: ({ where, kind, legacy, target }, { route, legacy: { status }, target: { status: now } }) =>
      (route.kind === 'list' &&
        where === 'body.data[].id' &&
        kind === 'changed' &&
        typeof target === 'string' &&
        MADE_UP_ID.test(String(legacy))) ||
      (route.kind === 'item' &&
        where === 'status' &&
        MADE_UP_ID.test(route.id) &&
        status === 404 &&
        now === 200),
  },
  {
    name: 'lists see every document',
    class: 'documented fix',
    defect: 3,
    sentence: 'Lists saw, sorted and counted only the newest documents.',
    explains: ({ where }, compared, { capped }) => listed(compared, capped) && VALUES.test(where),
  },
  {
    name: 'filter is applied',
    class: 'documented fix',
    defect: 3,
    sentence: 'Lists accepted `filter` and never applied it.',
    explains: ({ where }, { route, legacy, target }) =>
      route.kind === 'list' &&
      route.query.has('filter') &&
      legacy.status === 200 &&
      (target.status === 400 ? where === 'status' : VALUES.test(where)),
  },
  {
    name: 'objects come back',
    class: 'documented fix',
    defect: 4,
    sentence: 'Objects, or whole items of a list, came back as {}, whether anything was stored or not.',
    explains: ({ where, legacy, target }, { route }) =>
      isEmpty(legacy) &&
      ((OBJECT_FIELD.test(where) && (target === undefined || isFields(target))) ||
        (route.kind === 'list' && where === 'body.data[]')),
  },
  {
    name: 'a bad request is no 500',
    class: 'documented fix',
    defect: 5,
    sentence: 'Every error came back as 500; a bad request is 400, 409, 413 or 415 and names the field.',
    explains: ({ where }, { exchange, legacy, target }) =>
      where === 'status' && exchange.hints?.bad !== false && legacy.status >= 500 && isError(target.status),
  },
  {
    name: 'a failed read is no empty list',
    class: 'documented fix',
    defect: 5,
    sentence:
      'A read that failed came back as an empty list with 200; it is 400, or 503 when a store is away.',
    explains: ({ where }, { exchange, route, legacy, target }) =>
      where === 'status' &&
      exchange.hints?.bad !== false &&
      route.kind === 'list' &&
      legacy.status === 200 &&
      itemsOf(legacy.body).length === 0 &&
      [400, 503].includes(target.status),
  },
  {
    name: 'one envelope for failures',
    class: 'documented fix',
    defect: 5,
    sentence: 'An unknown route answered 404 in a form of its own; it has the form of every other failure.',
    explains: ({ where }, { route, legacy, target }) =>
      ['unknown', 'method'].includes(route.kind) &&
      where.startsWith('body.') &&
      legacy.status === 404 &&
      member(target.body, 'success') === false,
  },
  {
    name: 'what the client sent is what is stored',
    class: 'documented fix',
    defect: 6,
    sentence:
      'A client-sent id was answered and another one stored; a valid, free id is used, a taken one is 409.',
    explains: ({ where }, compared) => {
      const { route, legacy, target } = compared
      if (route.kind === 'create')
        return (
          member(parsed(compared.exchange.body), 'id') !== undefined &&
          (where === 'body.data.id' || (where === 'status' && target.status === 409))
        )
      return (
        route.kind === 'item' &&
        where === 'status' &&
        compared.exchange.hints?.ownId === true &&
        legacy.status === 404 &&
        target.status === 200
      )
    },
  },
  {
    name: 'streams open',
    class: 'documented fix',
    defect: 7,
    sentence: 'Opening a stream failed in one of the two variants.',
    explains: (_, { route, legacy, target }) =>
      route.kind === 'stream' &&
      (legacy.status === 0 || legacy.status >= 500 || legacy.frames?.length === 0) &&
      (target.frames?.length ?? 0) > 0,
  },
  {
    name: 'streams have one form unless asked',
    class: 'documented fix',
    defect: 7,
    sentence:
      'Streams of the simplified variant were unnamed and never told of a change; set DUALSTORE_STREAM_FORMAT=message, or let its clients ask for format=message.',
    explains: ({ where, legacy, target }, { route }) =>
      route.kind === 'stream' &&
      !route.query.has('format') &&
      /^stream \S+ event name$/.test(where) &&
      legacy === 'unnamed' &&
      target === `named ${where.split(' ')[1]}`,
  },
  {
    name: 'no credentials with *',
    class: 'documented fix',
    defect: 8,
    sentence: 'CORS allowed * together with credentials, which browsers refuse.',
    explains: ({ where, kind }, { legacy }) =>
      where === 'header access-control-allow-credentials' &&
      kind === 'missing' &&
      legacy.headers['access-control-allow-origin'] === '*',
  },
  {
    name: 'no vector copy',
    class: 'documented fix',
    defect: 9,
    sentence: 'A write waited for a vector copy; dualstore keeps none, and so none was written.',
    explains: ({ where }, { route }) => route.kind === 'debug' && /\.metadata\.vectorWrite\w+$/.test(where),
  },
  {
    name: 'raw documents are not for anyone',
    class: 'documented fix',
    defect: 10,
    sentence: 'The debug route was open to anyone; it needs authentication, or a loopback address.',
    explains: ({ where }, { route, target }) =>
      route.kind === 'debug' && where === 'status' && [401, 403].includes(target.status),
  },
  {
    name: 'a key is needed',
    class: 'documented fix',
    defect: 10,
    sentence: 'The legacy server was open to anyone and the target asks for a key: give one to every client.',
    explains: ({ where }, { target }, { keyOnTargetOnly }) =>
      keyOnTargetOnly && where === 'status' && target.status === 401,
  },
  {
    name: 'raw documents are stored otherwise',
    class: 'additive',
    sentence: 'Raw documents are shown as the mirror holds them.',
    explains: ({ where, kind }, { route }) =>
      route.kind === 'debug' && where !== 'status' && /^body\.\w+\[\]\../.test(where) && kind !== 'missing',
  },
  {
    name: 'more methods',
    class: 'additive',
    sentence: 'The legacy server did not route this method there.',
    explains: (_, { route, legacy, target }) =>
      route.kind === 'method' && legacy.status === 404 && target.status < 500,
  },
  {
    name: 'more for browsers',
    class: 'additive',
    sentence: 'CORS allows more methods and headers.',
    explains: ({ where, legacy, target }) =>
      /^header access-control-(allow-methods|allow-headers|expose-headers)$/.test(where) &&
      words(legacy).every((word) => words(target).includes(word)),
  },
  {
    name: 'more members',
    class: 'additive',
    sentence: 'Something new beside what was there.',
    explains: ({ where, kind, legacy, target }) =>
      where !== 'status' && (kind === 'added' || (isEmpty(legacy) && isFields(target))),
  },
]

/** What a difference means. */
export function classify(difference: Difference, compared: Compared, facts: Facts): Classified {
  const rule = rules.find((candidate) => candidate.explains(difference, compared, facts))
  return {
    ...difference,
    class: rule?.class ?? 'breaking',
    rule: rule?.name,
    defect: rule?.defect,
    sentence: rule?.sentence ?? 'Nothing that is documented explains this: clients may depend on it.',
  }
}

function words(text: unknown): string[] {
  return typeof text === 'string' ? text.split(/[,\s]+/).filter(Boolean) : []
}
