import type { CollectionDefinition } from './collection.js'

const object = { type: 'object' }
const string = { type: 'string' }
const bySession: CollectionDefinition['indexes'] = [{ fields: ['session_id', 'created_at'] }]

/**
 * The three collections of the legacy server as definitions like any other (legacy contract, sections 2, 4 and 8).
 * Fields they do not name are kept, because legacy clients could send them.
 */
export const shippedCollections: readonly CollectionDefinition[] = [
  {
    name: 'session_messages',
    label: 'Session message',
    id_prefix: 'msg',
    schema: {
      type: 'object',
      required: ['session_id', 'role', 'content'],
      properties: {
        session_id: string,
        role: { type: 'string', enum: ['user', 'assistant', 'system'] },
        content: string,
        metadata: object,
      },
    },
    indexes: bySession,
    mirror: {
      collection: 'session_messages',
      text: 'content',
      metadata: { session_id: 'session_id', role: 'role' },
      spread: 'metadata',
    },
  },
  {
    name: 'agent_tasks',
    label: 'Agent task',
    id_prefix: 'task',
    schema: {
      type: 'object',
      required: ['session_id', 'agent_id', 'task_type', 'status'],
      properties: {
        session_id: string,
        agent_id: string,
        task_type: string,
        status: { type: 'string', enum: ['pending', 'running', 'completed', 'failed'] },
        input_data: object,
        output_data: object,
        error_message: string,
        progress: { type: 'number', minimum: 0, maximum: 100 },
      },
    },
    indexes: bySession,
    mirror: {
      collection: 'agent_tasks',
      text: 'task_type',
      metadata: {
        session_id: 'sessionId',
        agent_id: 'agentId',
        task_type: 'taskType',
        status: 'status',
        progress: 'progress',
        input_data: 'inputData',
        output_data: 'outputData',
        error_message: 'errorMessage',
      },
      spread: null,
    },
  },
  {
    name: 'opencode_events',
    label: 'Opencode event',
    id_prefix: 'event',
    schema: {
      type: 'object',
      required: ['event_type', 'event_data', 'source'],
      properties: {
        event_type: string,
        event_data: object,
        source: string,
        session_id: string,
        severity: { type: 'string', enum: ['info', 'warning', 'error', 'debug', 'critical'] },
      },
    },
    indexes: bySession,
    mirror: {
      collection: 'opencode_events',
      text: 'event_type',
      metadata: {
        session_id: 'session_id',
        event_type: 'event_type',
        event_data: 'event_data',
        source: 'source',
        severity: 'severity',
      },
      spread: null,
    },
  },
]
