import type { MigrationService } from '../server/services/migrations.js'

/** What has become of a question to whoever follows a source. */
export type Standing = 'taken' | 'waiting' | 'nobody follows'

/**
 * Asks whoever follows whether everything was taken in that is written to the source by now. It is answered by a look
 * at the source that began behind the question, so no clocks are compared.
 * @returns tells how the question stands.
 */
export async function askFollower(
  migrations: MigrationService,
  id: string,
): Promise<() => Promise<Standing>> {
  const question = await migrations.ask(id)
  return async () => {
    const migration = await migrations.get(id)
    if (migration.answered >= question) return 'taken'
    return migrations.isRun(migration) ? 'waiting' : 'nobody follows'
  }
}
