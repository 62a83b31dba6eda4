import { DualstoreError } from '../server/errors.js'
import type { Migration, MigrationService } from '../server/services/migrations.js'
import type { MirrorControl } from '../server/services/mirror-control.js'
import type { OverviewService } from '../server/services/overview.js'
import type { Access } from '../server/services/principal.js'
import type { Adoption } from './adopt.js'
import { drained, resumeMirror, stopMirror } from './mirror-steps.js'
import type { Patience } from './patience.js'
import { askFollower } from './question.js'

const COMMAND = 'dualstore migrate-from-dualstore-http'

/** What every step needs. */
export interface StepOptions {
  migrations: MigrationService
  overview: OverviewService
  mirrorControl: MirrorControl
  /** Who asks for it. */
  access: Access
  patience: Patience
  /** The place of the mirror, where the legacy documents lie too; undefined when it cannot be opened. */
  adoption: Adoption | undefined
}

export interface CutOverOptions extends StepOptions {
  /** The operator says that the legacy documents are to be replaced in place. */
  adopt: boolean
  /** How old a clean verification may be, milliseconds. */
  verifyWithinMs: number
  /**
   * Gives what leads the clients to dualstore, or throws when there is no way to do it. What that throws ends the
   * cut-over, and nothing is changed.
   */
  switching: () => () => Promise<void>
}

/**
 * Cuts over: when everything was taken in that the legacy server has written, clients are switched, and everything is
 * taken in that was written until then. Asked for again it does what is left of it.
 * @throws CONFLICT with what mends it when nobody follows, or no verification is clean and new enough; WAIT_TIMEOUT;
 * whatever the switching throws. The migration is as it was then.
 */
export async function cutOver(options: CutOverOptions): Promise<Migration> {
  const { migrations, access, patience, adopt, verifyWithinMs, switching } = options
  const migration = await unfinished(migrations)
  const { id, state } = migration
  if (adopt !== migration.adopt) throw otherAdoption(migration)
  const adoption = adopt ? requireAdoption(options) : undefined
  // A rollback that did not come to its end is not to be gone on with, then.
  await migrations.setRollingBack(id, false)
  if (state !== 'cut_over') {
    if (!migrations.isRun(migration) || migration.lag === null) {
      throw new DualstoreError('CONFLICT', `nobody follows the source: start "${COMMAND} … --follow" first`)
    }
    requireVerified(migration, verifyWithinMs)
    const switchClients = switching()
    await everythingTaken(options, id)
    await migrations.markSwitch(id)
    await switchClients()
    // The first look may have begun while the last request was on its way.
    await everythingTaken(options, id)
    await everythingTaken(options, id)
    patience.signal.throwIfAborted()
    await migrations.moveTo(
      id,
      'cut_over',
      access.principal.id,
      'clients were switched, and nothing was left',
    )
  }
  if (adoption !== undefined) {
    await adoption.keepReplaceable()
    await resumeMirror(options)
    await adoptAll(options, adoption, id)
  }
  return migrations.get(id)
}

export interface RollBackOptions extends StepOptions {
  /** Gives what leads the clients back to the legacy server, or throws when there is no way to do it. */
  switching: () => () => Promise<void>
}

/**
 * Goes back: the mirror gets every write, and then none any more, so that the legacy server can go on from it. Before
 * clients were asked to switch it only gives the migration up. The follower ends on the way. One that did not come to
 * its end goes on when it is asked for again; to cut over again is to stay.
 * @throws CONFLICT when it is finished, or no MongoDB mirrors; WAIT_TIMEOUT; whatever the switching throws
 */
export async function rollBack(options: RollBackOptions): Promise<Migration> {
  const { migrations, overview, access, switching } = options
  const migration = await last(migrations)
  const { id, state, switch_position: position } = migration
  if (state === 'rolled_back') return migration
  if (state === 'finished')
    throw new DualstoreError('CONFLICT', 'this migration is finished: nothing leads back')
  const by = access.principal.id
  if (position === null) return migrations.moveTo(id, 'rolled_back', by, 'given up before the cut-over')
  const { kind } = await overview.mirror('mirror')
  if (kind !== 'mongodb') {
    throw new DualstoreError(
      'CONFLICT',
      'no MongoDB mirrors: there is nothing a legacy server could go on from',
    )
  }
  const adoption = migration.adopt ? requireAdoption(options) : undefined
  const switchClients = switching()
  await adoption?.keepReplaceable()
  await resumeMirror(options)
  await drained(options)
  // Once it has come further, what is new at the source may be what clients write there who were switched back.
  if (!migration.rolling_back) {
    if (migrations.isRun(migration)) await everythingTaken(options, id)
    // What the cut-over did not come to, or came after it: only of adopted documents there is an original to put back.
    if (adoption !== undefined) await adoptAll(options, adoption, id)
  }
  await endRunner(options, id)
  await drained(options)
  await switchClients()
  await stopMirror(options, 'the migration is rolled back')
  await adoption?.restore(position)
  return migrations.moveTo(id, 'rolled_back', by, 'the mirror holds every write')
}

/** Ends whoever takes documents in. */
async function endRunner({ migrations, patience }: StepOptions, id: string): Promise<void> {
  await migrations.setRollingBack(id, true)
  await patience.until(async () =>
    migrations.isRun(await migrations.get(id)) ? 'the follower is to end' : undefined,
  )
  await migrations.dismissRunner(id)
}

/**
 * Ends a migration that was cut over, and its follower with it. From here nothing leads back.
 * @throws CONFLICT before the cut-over; WAIT_TIMEOUT when the follower does not end, or stragglers cannot be taken
 */
export async function finish(options: StepOptions): Promise<Migration> {
  const { migrations, access, patience } = options
  const migration = await last(migrations)
  const { id, state } = migration
  if (state === 'rolled_back') throw new DualstoreError('CONFLICT', 'this migration was rolled back')
  if (state === 'following' || state === 'verified') {
    throw new DualstoreError('CONFLICT', `this migration is ${state}: "${COMMAND} cutover" comes first`)
  }
  if (state === 'cut_over') {
    // Without a follower nobody brings stragglers, and none is waited for.
    if (migrations.isRun(migration)) await everythingTaken(options, id)
    if (migration.adopt) await adoptAll(options, requireAdoption(options), id)
  }
  await migrations.moveTo(id, 'finished', access.principal.id)
  await patience.until(async () =>
    migrations.isRun(await migrations.get(id)) ? 'the follower is to end' : undefined,
  )
  return migrations.get(id)
}

/** Replaces the legacy documents by those of the mirror, and tells how many. */
async function adoptAll(options: StepOptions, adoption: Adoption, id: string): Promise<void> {
  const { migrations, access } = options
  const { adopted, left } = await adoption.adopt({
    taken: () => everythingTaken(options, id),
    drained: () => drained(options),
  })
  if (adopted + left === 0) return
  const note = `${adopted} legacy documents were replaced and are in the archive, ${left} stay where they are`
  await migrations.tell(id, (await migrations.get(id)).state, access.principal.id, note)
}

/** Waits until everything was taken in that is written to the source by now. */
async function everythingTaken({ migrations, patience }: StepOptions, id: string): Promise<void> {
  const look = await askFollower(migrations, id)
  await patience.until(async () => {
    const standing = await look()
    if (standing === 'taken') return undefined
    if (standing === 'nobody follows') {
      return `nobody follows the source: start "${COMMAND} … --follow" again`
    }
    return 'what the legacy server has written is to be taken in'
  })
}

function requireVerified({ state, verification }: Migration, withinMs: number): void {
  const { clean, at } = (verification ?? {}) as { clean?: boolean; at?: string }
  const mend = `run "${COMMAND} verify"`
  if (at === undefined) throw new DualstoreError('CONFLICT', `nothing was verified yet: ${mend}`)
  if (clean !== true)
    throw new DualstoreError('CONFLICT', `the last verification found differences: ${mend} again`)
  if (Date.now() - Date.parse(at) > withinMs) {
    throw new DualstoreError(
      'CONFLICT',
      `the last verification is of ${at}, which is too long ago: ${mend} again, or allow it by --verify-within`,
    )
  }
  if (state !== 'verified')
    throw new DualstoreError('CONFLICT', `this migration is ${state}, not verified: ${mend}`)
}

function otherAdoption({ adopt }: Migration): DualstoreError {
  return adopt
    ? new DualstoreError(
        'CONFIRMATION_REQUIRED',
        '--adopt is missing: legacy documents are replaced in place by those of the mirror, and kept in an archive',
      )
    : new DualstoreError('CONFLICT', 'this migration was begun without --adopt: the mirror lies elsewhere')
}

function requireAdoption({ adoption }: StepOptions): Adoption {
  if (adoption !== undefined) return adoption
  throw new DualstoreError(
    'CONFLICT',
    'MONGODB_URI is missing: the MongoDB that is the source and the mirror',
  )
}

/** @throws NOT_FOUND when no migration was begun; CONFLICT when the last one is over */
async function unfinished(migrations: MigrationService): Promise<Migration> {
  const migration = await last(migrations)
  if (!migrations.isOver(migration.state)) return migration
  throw new DualstoreError('CONFLICT', `the last migration is ${migration.state}`)
}

async function last(migrations: MigrationService): Promise<Migration> {
  const migration = await migrations.current()
  if (migration !== undefined) return migration
  throw new DualstoreError('NOT_FOUND', 'no migration was begun yet')
}
