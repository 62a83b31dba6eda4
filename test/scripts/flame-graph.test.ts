import { expect, test } from 'vitest'

const script: string = '../../scripts/flame-graph.js'
const { flameGraph } = (await import(script)) as { flameGraph(profile: object, title: string): string }

test('a box is as wide as its share of the time, above its caller, and idle time is left out', () => {
  const frame = (functionName: string, url = '') => ({ functionName, url, lineNumber: 0 })
  const svg = flameGraph(
    {
      nodes: [
        { id: 1, callFrame: frame('(root)'), children: [2, 5] },
        { id: 2, callFrame: frame('outer', 'file:///x/dist/a.js'), children: [3, 4] },
        { id: 3, callFrame: frame('half<>', 'file:///x/node_modules/pg/lib/query.js') },
        { id: 4, callFrame: frame('half<>', 'file:///x/node_modules/pg/lib/query.js') },
        { id: 5, callFrame: frame('(idle)') },
      ],
      samples: [2, 3, 4, 5],
      timeDeltas: [500, 250, 250, 9000],
    },
    'title',
  )
  const boxes = [
    ...svg.matchAll(/<title>(.*?)<\/title><rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"/g),
  ].map(([, tip, x, y, width]) => ({ tip, x: Number(x), y: Number(y), width: Number(width) }))
  const [all, outer, inner] = boxes
  expect(boxes).toHaveLength(3)
  expect(outer).toMatchObject({ tip: 'outer dist/a.js:1 — 100.0 %, 1 ms', x: 0, width: 1600 })
  expect(inner).toMatchObject({
    tip: 'half&lt;&gt; node_modules/pg/lib/query.js:1 — 50.0 %, 1 ms',
    width: 800,
  })
  expect(inner!.y).toBeLessThan(outer!.y)
  expect(outer!.y).toBeLessThan(all!.y)
})
