import type { CollectionDefinition } from '../../server/schemas/collection.js'
import type { Json } from '../../server/schemas/item.js'
import { compileItemValidator, type ItemValidator } from '../../server/services/item-validator.js'
import type { RawEvent } from './raw-event.js'

/** Where else a field's value is found, in this order, when it stands under none of its names. */
interface Meaning {
  names?: readonly string[]
  fromEvent?: (event: RawEvent) => unknown
  fromText?: (text: string) => string | undefined
  fallback?: Json
}

/** How one field of an item is found in a legacy document. */
export interface FieldPlan extends Meaning {
  field: string
  /** Its name under `metadata` by the contract. */
  place: string
  /** Every name that was seen for it, the one above included. */
  names: readonly string[]
  /** Those of them that mean it outside of `metadata` too. */
  topNames: readonly string[]
  /** Its value is an id: a number there means its digits. */
  isId: boolean
}

/** How a collection's documents are read. */
export interface Plan {
  fields: readonly FieldPlan[]
  /** Field that only the document's text gives; null when there is none. */
  textField: string | null
  validate: ItemValidator
}

/** What stands beside `metadata` in every document. */
const STRUCTURE = ['_id', 'id', 'text', 'timestamp', 'metadata']

const session: Meaning = {
  names: ['sessionID'],
  fromEvent: (event) => event.sessionId,
  fromText: (text) => /\bses_[A-Za-z0-9]+/.exec(text)?.[0],
}

/** What readers of the legacy store made of what they did not find under its name (legacy contract, section 8). */
const meanings: Readonly<Record<string, Readonly<Record<string, Meaning>>>> = {
  session_messages: {
    session_id: session,
    role: { fromEvent: (event) => event.role, fallback: 'user' },
  },
  agent_tasks: {
    session_id: session,
    agent_id: { fromEvent: (event) => event.agentId, fallback: 'unknown' },
    task_type: { fromText: taskName, fallback: 'general' },
    status: { fallback: 'pending' },
  },
  opencode_events: {
    session_id: session,
    event_type: {
      names: ['type'],
      fromEvent: (event) => event.type,
      fromText: (text) => text.trim() || undefined,
    },
    event_data: { fromEvent: (event) => event.data, fallback: {} },
    source: { fallback: 'opencode' },
    severity: { fallback: 'info' },
  },
}

/** The name of a task in the text that was given to an agent; a text without any mark is the name itself. */
function taskName(text: string): string | undefined {
  const marked =
    /\bTASK:[ \t]*(\S[^\r\n]*)/.exec(text) ??
    /\bYou are an? ([^\r\n]{1,200}? SPECIALIST)\b/.exec(text) ??
    /\bUUID:[ \t]*(\S+)/.exec(text)
  return (marked?.[1] ?? text).trim() || undefined
}

const plans = new WeakMap<CollectionDefinition, Plan>()

/** How documents of this collection are read; worked out once for a definition. */
export function planOf(definition: CollectionDefinition): Plan {
  let plan = plans.get(definition)
  if (plan === undefined) {
    plan = makePlan(definition)
    plans.set(definition, plan)
  }
  return plan
}

function makePlan({ name, schema, mirror }: CollectionDefinition): Plan {
  const known = meanings[name] ?? {}
  const fields = Object.entries(mirror.metadata).map(([field, place]): FieldPlan => {
    const meaning = known[field] ?? {}
    const names = [...new Set([place, field, camelCase(field), ...(meaning.names ?? [])])]
    const topNames = names.filter((name) => !STRUCTURE.includes(name))
    return { ...meaning, field, place, names, topNames, isId: field.endsWith('_id') }
  })
  const { text } = mirror
  return {
    fields,
    textField: text === null || Object.hasOwn(mirror.metadata, text) ? null : text,
    // The definition is in use already: a slow pattern in it is told by the registry.
    validate: compileItemValidator(schema, { onUnsafePattern: () => {} }),
  }
}

function camelCase(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
}
