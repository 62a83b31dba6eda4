/**
 * A condition that always holds, for statements that ask for log_head(). Because the statement names the table, it waits
 * for whoever drops a part of the log before it takes its snapshot, and not with one in which that part is still there.
 */
export const WITH_WHOLE_LOG = 'NOT EXISTS (SELECT FROM dualstore.changes WHERE seq = 0)'
