// Draws a processor profile of V8 (.cpuprofile, as `node --cpu-prof` writes it) as a flame graph: a self-contained SVG
// that any browser opens. Each box is a function, as wide as its share of the time, above the function that called it.

const WIDTH = 1600
const ROW = 17
const SMALLEST = 0.5
const NO_WORK = new Set(['(idle)', '(program)'])

/**
 * @param {{nodes: object[], samples: number[], timeDeltas: number[]}} profile
 * @param {string} title
 * @returns {string} SVG
 */
export function flameGraph(profile, title) {
  const root = tree(profile)
  const boxes = []
  let depth = 0
  const place = (node, x, level) => {
    const width = (node.time / root.time) * WIDTH
    if (width < SMALLEST) return
    depth = Math.max(depth, level)
    boxes.push({ ...node, x, width, level })
    let at = x
    for (const child of [...node.children.values()].sort((a, b) => b.time - a.time)) {
      place(child, at, level + 1)
      at += (child.time / root.time) * WIDTH
    }
  }
  place(root, 0, 0)
  const height = (depth + 1) * ROW + 60
  const drawn = boxes.map(({ name, place, time, x, width, level }) => {
    const y = height - 20 - (level + 1) * ROW
    const share = ((time / root.time) * 100).toFixed(1)
    const tip = escaped(`${name} ${place} — ${share} %, ${(time / 1000).toFixed(0)} ms`)
    const label = width < 30 ? '' : escaped(name.slice(0, Math.floor(width / 6.5)))
    return (
      `<g><title>${tip}</title><rect x="${x.toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="${ROW - 1}" ` +
      `fill="${colour(place)}"/><text x="${(x + 3).toFixed(1)}" y="${y + 12}">${label}</text></g>`
    )
  })
  const legend = Object.entries(COLOURS)
    .map(([kind, fill], at) => `<tspan dx="${at === 0 ? 0 : 16}" fill="${fill}">■ ${kind}</tspan>`)
    .join('')
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="monospace" font-size="11">` +
    `<rect width="100%" height="100%" fill="white"/><text x="8" y="18" font-size="14">${escaped(title)}</text>` +
    `<text x="8" y="36">${legend}</text>${drawn.join('')}</svg>\n`
  )
}

/** Time of each function under each stack, in microseconds; what was idle is left out. */
function tree({ nodes, samples, timeDeltas }) {
  const self = new Map()
  for (const [at, id] of samples.entries())
    self.set(id, (self.get(id) ?? 0) + Math.max(0, timeDeltas[at] ?? 0))
  const known = new Map(nodes.map((node) => [node.id, node]))
  const build = (node, into) => {
    into.time += self.get(node.id) ?? 0
    for (const id of node.children ?? []) {
      const child = known.get(id)
      const { functionName, url, lineNumber } = child.callFrame
      const name = functionName || '(anonymous)'
      if (NO_WORK.has(name)) continue
      const place = url === '' ? '' : `${shortened(url)}:${lineNumber + 1}`
      // The same function twice below a caller is one box.
      const key = `${name} ${place}`
      const box = into.children.get(key) ?? { name, place, time: 0, children: new Map() }
      into.children.set(key, box)
      build(child, box)
    }
  }
  const root = { name: 'all', place: '', time: 0, children: new Map() }
  build(nodes[0], root)
  const total = (box) => {
    for (const child of box.children.values()) box.time += total(child)
    return box.time
  }
  total(root)
  return root
}

function shortened(url) {
  return url.replace(/^.*\/node_modules\//, 'node_modules/').replace(/^.*\/dist\//, 'dist/')
}

const COLOURS = {
  program: '#f0a35e',
  packages: '#7fb2e5',
  'Node.js': '#9ccc8f',
  'engine and collector': '#cccccc',
}

function colour(place) {
  if (place === '') return COLOURS['engine and collector']
  if (place.startsWith('node:')) return COLOURS['Node.js']
  return place.startsWith('node_modules/') ? COLOURS.packages : COLOURS.program
}

function escaped(text) {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
