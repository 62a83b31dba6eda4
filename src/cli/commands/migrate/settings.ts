import type { SettingKey } from '../../../server/config/settings.js'

/** What leads to the stores that are migrated into. */
export const migrationSettings: readonly SettingKey[] = ['databaseUrl', 'dataDir', 'logLevel']
