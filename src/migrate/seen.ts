const BITS = 27
const SIZE = 2 ** BITS
const PROBES = 4

/**
 * Remembers texts in 16 MiB however many there are (a Bloom filter). What was added is always known; of what was not,
 * one in a million is taken for known among a million texts, and one in 200 among ten million.
 */
export function createSeen() {
  const bits = new Uint8Array(SIZE / 8)
  return {
    /** Adds a text. @returns whether it was known before. */
    add(text: string): boolean {
      const first = hash(text, 0x811c9dc5)
      const step = hash(text, 0x9747b28c) | 1
      let known = true
      for (let probe = 0; probe < PROBES; probe++) {
        const place = (first + Math.imul(step, probe)) >>> (32 - BITS)
        const mask = 1 << (place & 7)
        const byte = bits[place >> 3] ?? 0
        if ((byte & mask) === 0) known = false
        bits[place >> 3] = byte | mask
      }
      return known
    },
  }
}

/** FNV-1a, mixed at the end so that the high bits depend on every character. */
function hash(text: string, seed: number): number {
  let value = seed
  for (let at = 0; at < text.length; at++) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193)
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35)
  return value ^ (value >>> 16)
}
