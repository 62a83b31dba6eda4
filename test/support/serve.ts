import { type Program, type ProgramOptions, startProgram } from './process.js'

/** Starts the real server in a process of its own; `env` configures it. */
export function startServer(
  env: Readonly<Record<string, string>>,
  options: Omit<ProgramOptions, 'env'> = {},
): Promise<Program> {
  return startProgram({ ...options, env: { LOG_LEVEL: 'info', ...env } })
}
