import { BSON } from 'mongodb'
import { isTime, parseTime } from '../../server/services/time.js'
import type { Oddity } from '../sources/contract.js'

/** A time as it was found. */
export interface FoundTime {
  /** Epoch milliseconds. */
  ms: number
  /** What is odd about its form; null for ISO text. */
  oddity: Extract<Oddity, 'timestamp_as_number' | 'timestamp_as_date'> | null
}

/** Reads a time in any form that legacy writers used; undefined when it is none, or outside of the years 0 to 9999. */
export function readTime(value: unknown): FoundTime | undefined {
  if (typeof value === 'string') {
    const ms = parseTime(value)
    if (ms !== undefined) return { ms, oddity: null }
    return /^-?\d{5,16}(\.\d+)?$/.test(value) ? found(Number(value), 'timestamp_as_number') : undefined
  }
  if (typeof value === 'number') return found(value, 'timestamp_as_number')
  if (value instanceof Date) return found(value.getTime(), 'timestamp_as_date')
  // A BSON timestamp counts seconds; its class extends Long.
  if (value instanceof BSON.Timestamp) return found(value.t * 1000, 'timestamp_as_date')
  if (
    value instanceof BSON.Long ||
    value instanceof BSON.Double ||
    value instanceof BSON.Int32 ||
    value instanceof BSON.Decimal128
  ) {
    return found(Number(value.toString()), 'timestamp_as_number')
  }
  return undefined
}

function found(time: number, oddity: FoundTime['oddity']): FoundTime | undefined {
  const ms = Math.trunc(time) + 0
  return isTime(ms) ? { ms, oddity } : undefined
}
