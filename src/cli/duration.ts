import { InvalidArgumentError } from 'commander'

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 }

/** `90s`, `15m`, `12h` or `30d` in milliseconds, whole seconds. For commander's argParser. */
export function parseDuration(text: string): number {
  const [, digits = '', unit = ''] = /^(\d{1,9})([smhd]?)$/.exec(text) ?? []
  if (digits === '' || (unit === '' && Number(digits) !== 0)) {
    throw new InvalidArgumentError('It must be a duration such as 90s, 15m, 12h or 30d.')
  }
  return Number(digits) * (UNITS[unit] ?? 1) * 1000
}
