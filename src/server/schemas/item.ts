/** Any JSON value. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

/** A document as clients see it. Times are ISO 8601 UTC with milliseconds and set by the server. */
export interface Item {
  id: string
  created_at: string
  updated_at: string
  [field: string]: Json
}
