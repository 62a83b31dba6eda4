// The server itself, as `dualstore serve` runs it.
import { type ServerOptions, start } from '../../../src/server/index.js'
import { offer, processArgument } from '../channel.js'

const server = await start({
  host: '127.0.0.1',
  port: 0,
  logLevel: 'error',
  // A machine that is busy with something else must not end the benchmark.
  databaseConnectTimeoutMs: 60_000,
  databaseStatementTimeoutMs: 60_000,
  ...processArgument<ServerOptions>(),
})
offer({ url: server.url, close: () => server.app.close() })
