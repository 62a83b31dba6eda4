// tsc leaves .sql files behind; the migration runner reads them beside its own compiled module.
import { cpSync } from 'node:fs'

cpSync('src/server/db/migrations', 'dist/src/server/db/migrations', { recursive: true })
