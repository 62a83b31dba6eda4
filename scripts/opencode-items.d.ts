export function eventItem(record: unknown): Record<string, unknown>
export function messageItem(record: unknown): Record<string, unknown>
