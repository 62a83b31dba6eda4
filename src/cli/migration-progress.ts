import type { RunProgress } from '../migrate/run.js'
import { lagText } from './migration-lines.js'
import { counted, say } from './output.js'
import { type Progress, showProgress } from './progress.js'

const FOLLOW_LINE_MS = 5000
const FOLLOWING = ['following', 'verified', 'cut_over']

/** Shows how far a migration is: a bar until everything is read, then a line every few seconds with the lag. */
export function showMigration() {
  let now: RunProgress | undefined
  let bar: Promise<Progress> | undefined
  let timer: NodeJS.Timeout | undefined
  const endBar = async () => {
    const ending = bar
    bar = undefined
    ;(await ending)?.stop()
  }
  return {
    update(progress: RunProgress): void {
      now = progress
      if (FOLLOWING.includes(progress.state)) {
        void endBar()
        timer ??= setInterval(() => say(followLine(progress)), FOLLOW_LINE_MS)
      } else if (progress.state === 'planned' || progress.done < progress.documents) {
        bar ??= showProgress({
          label: 'migrating',
          documents: () => now?.taken ?? 0,
          done: () => now?.done ?? 0,
          total: progress.documents,
        })
      }
    },
    async stop(): Promise<void> {
      clearInterval(timer)
      await endBar()
    },
  }
}

function followLine({ taken, lag }: RunProgress): string {
  const told = lag === null ? '' : `, ${lagText(lag)}`
  return `following: ${counted(taken, 'document')} taken in${told}`
}
