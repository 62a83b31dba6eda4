// The event types of OpenCode 1.18.33, from its own API description (GET /doc). A type that is not listed is stored
// all the same; it is only reported, once.

const words = (text: string) => text.trim().split(/\s+/)

/** What keeps the connection alive and says nothing about the provider's work: the only events that are not stored. */
export const CONNECTION_TYPES: ReadonlySet<string> = new Set(['server.connected', 'server.heartbeat'])

/**
 * What OpenCode keeps and tells again (POST /sync/history). On /global/event such an event comes twice: as it is, and
 * right behind it as "sync" with its number.
 */
export const KEPT_TYPES: ReadonlySet<string> = new Set(
  words(`
    message.part.removed message.part.updated message.removed message.updated
    session.created session.deleted session.updated
    session.next.agent.switched session.next.compaction.ended session.next.compaction.started
    session.next.context.updated session.next.model.switched session.next.moved session.next.prompt.admitted
    session.next.prompted session.next.reasoning.ended session.next.reasoning.started session.next.retried
    session.next.revert.cleared session.next.revert.committed session.next.revert.staged session.next.shell.ended
    session.next.shell.started session.next.step.ended session.next.step.failed session.next.step.started
    session.next.synthetic session.next.text.ended session.next.text.started session.next.tool.called
    session.next.tool.failed session.next.tool.input.ended session.next.tool.input.started
    session.next.tool.progress session.next.tool.success`),
)

const TRANSIENT_TYPES = words(`
  catalog.updated command.executed file.edited file.watcher.updated global.disposed installation.update-available
  installation.updated integration.connection.updated integration.updated lsp.updated mcp.browser.open.failed
  mcp.tools.changed message.part.delta models-dev.refreshed permission.asked permission.replied plugin.added
  project.directories.updated project.updated pty.created pty.deleted pty.exited pty.updated question.asked
  question.rejected question.replied reference.updated server.instance.disposed session.compacted session.diff
  session.error session.idle session.next.compaction.delta session.next.reasoning.delta session.next.text.delta
  session.next.tool.input.delta session.status todo.updated tui.command.execute tui.prompt.append
  tui.session.select tui.toast.show vcs.branch.updated workspace.failed workspace.ready workspace.status
  worktree.failed worktree.ready`)

export const KNOWN_TYPES: ReadonlySet<string> = new Set([...KEPT_TYPES, ...TRANSIENT_TYPES])
