/** Faults that a history's commands plan. */
export interface Planned<Fault, On> {
  /**
   * @param on the product, statement or table whose questions are counted, so that others can be left out when a failure is shrunk
   * @param skips so many of them go well before the one that meets the fault
   */
  add(fault: Fault, on: On, skips: number): void
  /** Asked once for each question. @param about all that it is about */
  next(about: readonly On[]): Fault | undefined
  /** From now on everything goes well. */
  clear(): void
}

export function planned<Fault, On>(): Planned<Fault, On> {
  const waiting: { fault: Fault; on: On; skips: number }[] = []
  return {
    add: (fault, on, skips) => void waiting.push({ fault, on, skips }),
    next(about) {
      const meant = waiting.filter(({ on }) => about.includes(on))
      const due = meant.find(({ skips }) => skips <= 0)
      for (const one of meant) one.skips -= 1
      if (due) waiting.splice(waiting.indexOf(due), 1)
      return due?.fault
    },
    clear: () => void waiting.splice(0),
  }
}

/** What a call to Catalog meets. */
export interface CallFault {
  /** The answer is dropped; the call acts late; it is not sent; the request is lost; Catalog answers 500. */
  kind: 'drop' | 'late' | 'unsent' | 'lose' | 'error'
  /** Of a late call: when it acts, counted from when it was sent. */
  actsAfterMs: number
  /** The connection is reset so long after the call was sent. */
  resetsAfterMs: number | undefined
  /** Whether Catalog acts before it answers 500. A read fails at once then, and otherwise when its time is up. */
  isDone: boolean
}

/** A statement to PostgreSQL gets no answer. */
export interface Unanswered {
  isDone: boolean
}

export type CallFaults = Planned<CallFault, number>
/** By name. */
export type UnansweredStatements = Planned<Unanswered, string>
