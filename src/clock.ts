/** Time as steps and stock calls see it. It is passed in: a test moves its own. */
export interface Clock {
  /** ms, from any beginning, never backwards. */
  now(): number
  /**
   * Epoch ms by PostgreSQL's clock, in which deadlines and leases are given; never earlier than PostgreSQL's own, so that nothing is
   * believed to last for longer than it does.
   */
  wallTime(): number
  sleep(ms: number): Promise<void>
  /** Resolves when what has arrived by now has been seen to. */
  turn(): Promise<void>
}
