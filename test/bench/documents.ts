/** Documents of one session among the seeded ones; a list with an exact total has this many to count. */
export const SESSION_SIZE = 1000
const START = Date.UTC(2026, 0, 1)
const WORDS = 'the agent reads a file and then plans its next step with care before it answers'.split(' ')

/** An item as clients send it: about 350 bytes of JSON. */
export function message(number: number) {
  const words = Array.from({ length: 30 }, (_, index) => WORDS[(number * 7 + index * index) % WORDS.length])
  return {
    session_id: `ses_${Math.floor(number / SESSION_SIZE)}`,
    role: number % 2 === 0 ? 'user' : 'assistant',
    content: `${number}: ${words.join(' ')}`,
    metadata: {
      model: 'local',
      tokens: (number * 31) % 4096,
      tools: ['read', 'write'],
      final: number % 3 === 0,
    },
  }
}

export function seededId(number: number): string {
  return `msg_${START}_${number.toString(36).padStart(9, '0')}`
}

/** A whole item, the same for every contestant. */
export function seededItem(number: number) {
  const time = new Date(START + number * 1000).toISOString()
  return { id: seededId(number), created_at: time, updated_at: time, ...message(number) }
}

/** `count` bodies of new documents, each another one. */
export function messages(count: number): ReturnType<typeof message>[] {
  return Array.from({ length: count }, (_, index) => message(index))
}
