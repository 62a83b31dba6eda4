// The one-way imports of docs/architecture.md. Each rule names the room and what it must not reach.
const room = (name) => `^src/server/${name}(/|[.]ts$)`
const rooms = (...names) => names.map(room)

/** A room of the server may import itself, the rooms listed, and the leaves everything may use. */
const only = (name, ...allowed) => ({
  name: `${name}-imports`,
  severity: 'error',
  from: { path: room(name) },
  to: { path: '^(src|bin)/', pathNot: rooms(name, ...allowed, 'errors', 'breaker', 'activity') },
})

module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'no-orphans',
      severity: 'error',
      from: { orphan: true, pathNot: '^(bin/|src/server/index[.]ts$)' },
      to: {},
    },
    {
      name: 'errors-import-nothing',
      severity: 'error',
      from: { path: room('errors') },
      to: { path: '^(src|bin)/' },
    },
    {
      name: 'activity-imports-nothing',
      severity: 'error',
      from: { path: room('activity') },
      to: { path: '^(src|bin)/' },
    },
    {
      name: 'telemetry-is-loaded-when-wanted',
      comment: 'packages that weigh, and only when a setting asks for them; types cost nothing',
      severity: 'error',
      from: { path: '^(src|bin)/', pathNot: room('telemetry') },
      to: {
        path: [room('telemetry'), 'node_modules/(@opentelemetry|@sentry)/'],
        dependencyTypesNot: ['type-only', 'dynamic-import'],
      },
    },
    only('telemetry'),
    only('config'),
    only('schemas'),
    only('filter', 'schemas'),
    only('db'),
    only('store', 'db', 'schemas', 'filter'),
    only('changes', 'db', 'schemas'),
    only('mirror', 'schemas'),
    only('followers', 'changes', 'store', 'mirror', 'db', 'schemas', 'filter'),
    only('services', 'store', 'changes', 'mirror', 'followers', 'db', 'schemas', 'filter'),
    only('ingest', 'services', 'followers', 'schemas'),
    only('plugins', 'services', 'schemas', 'config', 'telemetry'),
    only('routes', 'services', 'schemas', 'config'),
    {
      name: 'migrate-goes-through-services',
      severity: 'error',
      from: { path: '^src/migrate/' },
      to: { path: '^src/server/', pathNot: rooms('services', 'schemas', 'errors') },
    },
    {
      name: 'cli-stays-above',
      severity: 'error',
      from: { path: '^src/cli/' },
      to: {
        path: '^src/server/',
        pathNot: rooms('start', 'context', 'services', 'ingest', 'schemas', 'errors', 'config', 'db/migrate'),
      },
    },
    {
      name: 'bin-calls-cli',
      severity: 'error',
      from: { path: '^bin/' },
      to: { path: '^src/', pathNot: '^src/cli/main[.]ts$' },
    },
    {
      name: 'client-stands-alone',
      comment: 'published for browsers: nothing of the server runs in it, and nothing of Node',
      severity: 'error',
      from: { path: '^src/client/' },
      to: {
        pathNot: ['^src/client/', '^src/server/schemas/item[.]ts$', '(^|/)node_modules/eventsource-parser/'],
      },
    },
    {
      name: 'client-takes-types-only',
      severity: 'error',
      from: { path: '^src/client/' },
      to: { path: '^src/server/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'nobody-imports-bin-or-cli',
      severity: 'error',
      from: { path: '^src/(server|migrate|client)/' },
      to: { path: '^(bin|src/cli)/' },
    },
    {
      name: 'fastify-only-on-top',
      severity: 'error',
      from: { path: '^src/', pathNot: [...rooms('routes', 'plugins', 'app', 'start', 'index')] },
      to: { path: 'node_modules/(fastify|@fastify)/' },
    },
    {
      name: 'typebox-for-types-only',
      comment:
        'reading it takes a sixth of a start: schemas/type.ts makes the schemas, typebox/value is loaded lazily',
      severity: 'error',
      from: { path: '^src/server/' },
      to: { path: 'node_modules/typebox/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'not-to-dev-dependencies',
      severity: 'error',
      from: { path: '^(src|bin)/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'] },
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
    },
  },
}
