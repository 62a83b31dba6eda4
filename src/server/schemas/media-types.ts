/** One JSON document a line. */
export const NDJSON = 'application/x-ndjson'
/** RFC 7396 */
export const MERGE_PATCH = 'application/merge-patch+json'
/** RFC 6902 */
export const JSON_PATCH = 'application/json-patch+json'
/** Server-sent events, HTML Living Standard section 9.2. */
export const EVENT_STREAM = 'text/event-stream'
