/** Everything long-lived has the same three members. */
export interface Follower {
  readonly id: string
  /** Starts in the background and returns at once; it survives outages by itself. */
  run(): void
  /** Ends after the work in hand; stopping twice is the same as once. */
  stop(): Promise<void>
}

/** Where followers write what an operator should know. */
export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}
