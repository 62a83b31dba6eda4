import { Command } from 'commander'
import { pauseCommand } from './mirror/pause.js'
import { rebuildCommand } from './mirror/rebuild.js'
import { resumeCommand } from './mirror/resume.js'
import { setPositionCommand } from './mirror/set-position.js'
import { statusCommand } from './mirror/status.js'

export function mirrorCommand(): Command {
  const command = new Command('mirror').helpOption('-h, --help', 'print this help').addHelpText(
    'after',
    `
Orders are kept in PostgreSQL and outlive restarts: whichever server leads the mirror obeys within a second or so.

Examples:
  dualstore mirror status --watch
  dualstore mirror pause --reason "MongoDB is being moved"
  dualstore mirror rebuild --url http://127.0.0.1:3000`,
  )
  const children = [statusCommand(), pauseCommand(), resumeCommand(), rebuildCommand(), setPositionCommand()]
  for (const child of children) command.addCommand(child)
  return command
}
