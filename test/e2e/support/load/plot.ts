/** One curve: its values over the same times. */
export interface Curve {
  label: string
  unit: string
  values: readonly number[]
}

const WIDTH = 900
const HEIGHT = 150
const LEFT = 70
const TOP = 26
const GAP = 24

/** Draws each curve in a frame of its own, one below the other, as a self-contained SVG. Times are in seconds. */
export function plotted(title: string, times: readonly number[], curves: readonly Curve[]): string {
  const last = Math.max(1, times.at(-1) ?? 1)
  const height = TOP + curves.length * (HEIGHT + TOP + GAP) + GAP
  const frames = curves.map(({ label, unit, values }, index) => {
    const y = TOP + TOP + index * (HEIGHT + TOP + GAP)
    const top = niceAbove(Math.max(...values, 1e-9))
    const points = values.map((value, at) => {
      const x = LEFT + ((times[at] ?? 0) / last) * (WIDTH - LEFT - 20)
      return `${x.toFixed(1)},${(y + HEIGHT - (value / top) * HEIGHT).toFixed(1)}`
    })
    const lines = [0, 0.5, 1].map((share) => {
      const at = y + HEIGHT - share * HEIGHT
      return (
        `<line x1="${LEFT}" x2="${WIDTH - 20}" y1="${at}" y2="${at}" stroke="#ddd"/>` +
        `<text x="${LEFT - 6}" y="${at + 4}" text-anchor="end">${Number((top * share).toPrecision(3))}</text>`
      )
    })
    return (
      `<text x="${LEFT}" y="${y - 8}" font-weight="bold">${label} (${unit})</text>${lines.join('')}` +
      `<polyline fill="none" stroke="#1f6feb" stroke-width="1.5" points="${points.join(' ')}"/>`
    )
  })
  const minutes = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const x = LEFT + share * (WIDTH - LEFT - 20)
    return `<text x="${x}" y="${height - 8}" text-anchor="middle">${((last * share) / 60).toFixed(1)} min</text>`
  })
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">` +
    `<title>${title}</title><rect width="100%" height="100%" fill="white"/><text x="${LEFT}" y="18" font-size="14">${title}</text>` +
    `${frames.join('')}${minutes.join('')}</svg>\n`
  )
}

/** 1, 2 or 5 times a power of ten, not below the value. */
function niceAbove(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value))
  return ([1, 2, 5, 10].find((step) => step * power >= value) ?? 10) * power
}
