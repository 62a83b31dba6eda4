import { storageFault } from '../../server/services/storable.js'
import { type Fields, isPlain } from './json.js'

/** A whole event of OpenCode, which some writers stored beside what they took out of it. */
export interface RawEvent {
  type: string | undefined
  sessionId: string | undefined
  agentId: string | undefined
  role: string | undefined
  /** What the event carries; undefined when it carries nothing. */
  data: Fields | undefined
}

/** Reads a raw event from JSON text or from an object; undefined when it is neither. */
export function readRawEvent(value: unknown): RawEvent | undefined {
  const event = typeof value === 'string' ? parsed(value) : value
  if (!isPlain(event)) return undefined
  const properties = inside(event, 'properties')
  const info = inside(properties, 'info')
  const part = inside(properties, 'part')
  return {
    type: text(event.type),
    sessionId: text(properties.sessionID) ?? text(info.sessionID) ?? text(part.sessionID),
    // A part that stands for an agent has its name.
    agentId: text(info.agentId) ?? text(part.name),
    role: text(info.role),
    data: isPlain(event.properties) ? storableData(event.properties, value) : undefined,
  }
}

/** Text inside of JSON text can hold what PostgreSQL cannot; then the text itself is the data, as it is stored. */
function storableData(properties: Fields, given: unknown): Fields {
  if (typeof given !== 'string' || storageFault(properties, 'event', 1) === undefined) return properties
  return { rawEvent: given }
}

function inside(object: Fields, name: string): Fields {
  const value = Object.hasOwn(object, name) ? object[name] : undefined
  return isPlain(value) ? value : {}
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
