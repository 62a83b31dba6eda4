/** What one look has found. A problem keeps something from working; a warning is on its way to one. */
export interface Finding {
  check: string
  level: 'ok' | 'warning' | 'problem'
  message: string
  /** What mends it: a command, a statement or a setting. */
  mend?: string
}

export const ok = (check: string, message: string): Finding => ({ check, level: 'ok', message })
export const warning = (check: string, message: string, mend: string): Finding => ({
  check,
  level: 'warning',
  message,
  mend,
})
export const problem = (check: string, message: string, mend: string): Finding => ({
  check,
  level: 'problem',
  message,
  mend,
})

/** "1.5 s", "3 min", "2 h", "4 d". */
export function duration(ms: number): string {
  if (ms < 60_000) return `${Math.round(ms / 100) / 10} s`
  if (ms < 3_600_000) return `${Math.round(ms / 60_000)} min`
  if (ms < 86_400_000) return `${Math.round(ms / 3_600_000)} h`
  return `${Math.round(ms / 86_400_000)} d`
}

/** "512 kB", "3.2 GB". */
export function size(bytes: number): string {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB']
  let at = 0
  let value = bytes
  for (; value >= 1000 && at < units.length - 1; at++) value /= 1000
  return `${Math.round(value * 10) / 10} ${units[at]}`
}
