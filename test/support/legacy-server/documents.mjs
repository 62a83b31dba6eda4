// Items and stored documents of the legacy server, both ways (legacy contract, sections 4 and 8).
import { randomInt } from 'node:crypto'

/** The three fixed collections: what differs between them. */
export const collections = {
  session_messages: {
    prefix: 'msg',
    notFound: 'Session message not found',
    store: 'sessionMessages',
    required: ['session_id', 'role', 'content'],
    enums: { role: ['user', 'assistant', 'system'] },
    objects: ['metadata'],
    text: 'content',
    /** @param {any} item */
    metadata: ({ session_id, role, updated_at, metadata }) => ({ session_id, role, updated_at, ...metadata }),
    /** @param {any} document */
    fields: ({ text, metadata = {} }) => {
      const { session_id, role = 'user', updated_at: _, ...others } = withoutStored(metadata)
      return { session_id, role, content: text, metadata: others }
    },
  },
  agent_tasks: {
    prefix: 'task',
    notFound: 'Agent task not found',
    store: 'agentTasks',
    required: ['session_id', 'agent_id', 'task_type', 'status'],
    enums: { status: ['pending', 'running', 'completed', 'failed'] },
    objects: ['input_data', 'output_data'],
    text: 'task_type',
    /** @param {any} item */
    metadata: (item) => ({
      sessionId: item.session_id,
      agentId: item.agent_id,
      taskType: item.task_type,
      status: item.status,
      progress: item.progress,
      inputData: item.input_data,
      outputData: item.output_data,
      errorMessage: item.error_message,
      updated_at: item.updated_at,
    }),
    /** @param {any} document @param {'a' | 'b'} variant */
    fields: ({ text, metadata = {} }, variant) => ({
      session_id: metadata.sessionId,
      agent_id: metadata.agentId ?? 'unknown',
      task_type: metadata.taskType ?? (text || (variant === 'a' ? 'general' : 'unknown')),
      status: metadata.status ?? 'pending',
      progress: metadata.progress,
      input_data: metadata.inputData,
      output_data: metadata.outputData,
      error_message: metadata.errorMessage,
    }),
  },
  opencode_events: {
    prefix: 'event',
    notFound: 'Opencode event not found',
    store: 'opencodeEvents',
    required: ['event_type', 'event_data', 'source'],
    enums: { severity: ['info', 'warning', 'error', 'debug', 'critical'] },
    objects: ['event_data'],
    text: 'event_type',
    /** @param {any} item */
    metadata: ({ session_id, event_type, event_data, source, severity, updated_at }) => ({
      session_id,
      event_type,
      event_data,
      source,
      severity,
      updated_at,
    }),
    /** @param {any} document */
    fields: ({ text, metadata = {} }) => ({
      event_type: metadata.event_type ?? metadata.eventType ?? metadata.type ?? text,
      event_data: metadata.event_data ?? {},
      source: metadata.source ?? 'opencode',
      session_id: metadata.session_id ?? metadata.sessionId,
      severity: metadata.severity ?? 'info',
    }),
  },
}

/** What stands in every document's metadata beside the item's own. @param {any} metadata */
function withoutStored({
  timestamp: _,
  vectorWriteSuccess: _success,
  vectorWriteError: _error,
  vectorWriteTimestamp: _time,
  ...others
}) {
  return others
}

/** @param {any} definition @param {any} item with id and times */
export function toDocument(definition, item) {
  return {
    id: item.id,
    text: item[definition.text],
    timestamp: item.created_at,
    metadata: {
      ...definition.metadata(item),
      timestamp: item.created_at,
      vectorWriteSuccess: true,
      vectorWriteTimestamp: Date.now(),
    },
  }
}

/** @param {any} definition @param {any} document @param {'a' | 'b'} variant */
export function toItem(definition, document, variant) {
  const created = iso(document.timestamp ?? document.createdAt ?? document.created_at ?? document.timeStamp)
  return {
    id: document.id,
    ...definition.fields(document, variant),
    created_at: created,
    updated_at: iso(document.metadata?.updated_at ?? created),
  }
}

/** Without declared properties a response schema lets nothing of an object through (defect 4). */
export function emptied(/** @type {any} */ definition, /** @type {any} */ item) {
  const emptyObjects = definition.objects
    .filter((/** @type {string} */ field) => item[field] !== undefined)
    .map((/** @type {string} */ field) => [field, {}])
  return { ...item, ...Object.fromEntries(emptyObjects) }
}

/** @param {string} prefix */
export function newId(prefix) {
  const random = Array.from({ length: 9 }, () => randomInt(36).toString(36)).join('')
  return `${prefix}_${Date.now()}_${random}`
}

/** @param {string | number | Date | undefined} time */
function iso(time) {
  const date = new Date(time ?? Number.NaN)
  return (Number.isNaN(date.getTime()) ? new Date(0) : date).toISOString()
}
