import type { FaultKind } from './faults.ts'

/** What every downstream writes down about a call: at its arrival, completed when it is answered. */
export interface Entry {
  /** When it arrived, epoch ms. */
  at: number
  /** How long until it was answered or its caller went. */
  ms: number
  /** The status it was answered with; `none` as long as there is no answer. */
  answer: number | 'none'
  /** Whether it took effect; a late one may do so long after its caller went. */
  applied: boolean
  /** The fault that struck it. */
  fault?: FaultKind
  idempotencyKey?: string
}

/** The last calls to a downstream, oldest first: no more than `limit`, so that a benchmark of millions does not fill the memory. */
export class Journal<E extends Entry> {
  #entries: E[] = []
  #limit: number

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Keeps so many from now on; 0 switches the journal off. */
  keep(limit: number): void {
    this.#limit = limit
    this.#trim(limit)
  }

  add(entry: E): void {
    if (this.#limit === 0) return
    this.#entries.push(entry)
    // Trimmed by halves: shifting one at a time would cost every call.
    if (this.#entries.length >= 2 * this.#limit) this.#trim(this.#limit)
  }

  /** Copies, so that what a test reads does not change under its eyes. */
  read(matches: (entry: E) => boolean = () => true): E[] {
    this.#trim(this.#limit)
    return this.#entries.filter(matches).map((entry) => ({ ...entry }))
  }

  forget(): void {
    this.#entries = []
  }

  #trim(limit: number): void {
    if (this.#entries.length > limit) this.#entries = limit === 0 ? [] : this.#entries.slice(-limit)
  }
}
