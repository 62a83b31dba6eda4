import type { FastifyInstance } from 'fastify'
import { bodies, call, create } from './http.js'

export const TASKS = '/api/v1/agent_tasks'
export const task = bodies.agent_tasks ?? {}
export const times = (count: number) => Array.from({ length: count }, (_, index) => index)
export const urlOf = ({ id }: { id: string }) => `${TASKS}/${encodeURIComponent(id)}`

/** Makes and reads agent tasks of an application that is there when they are called. */
export function tasksOf(app: () => FastifyInstance) {
  return {
    fresh: (more: object = {}) => create(app(), 'agent_tasks', { ...task, ...more }),
    read: async (item: { id: string }) => (await call(app(), 'GET', urlOf(item))).json.data,
  }
}
