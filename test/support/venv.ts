import { execFile } from 'node:child_process'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { installed } from './installed.js'

const run = promisify(execFile)

/**
 * The folder of a Python virtual environment with one package from PyPI, made on first use under .cache.
 * @param name Of the folder; the version becomes a folder in it.
 */
export async function virtualEnvironment(
  name: string,
  packageName: string,
  version: string,
): Promise<string> {
  // From the package's root, where npm runs scripts: benchmarks run this file from a build folder.
  const home = join(resolve('.cache'), name, version)
  await installed(home, async (draft) => {
    await run('python3', ['-m', 'venv', draft])
    const install = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
    await run(join(draft, 'bin', 'python'), [...install, `${packageName}==${version}`])
  })
  return home
}
