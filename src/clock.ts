/** The clock of steps and stock calls. It is passed in, so that tests can move their own. */
export interface Clock {
  /** Monotonic, in ms from an arbitrary start. */
  now(): number
  /**
   * Epoch ms by PostgreSQL's clock, which deadlines and leases use. Never earlier than PostgreSQL's own time, so that nothing seems to last
   * longer than it does.
   */
  databaseTime(): number
  sleep(ms: number): Promise<void>
  /** Resolves after everything that has arrived by now was processed. */
  turn(): Promise<void>
}
