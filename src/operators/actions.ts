/** What operators do, from the pages and from the command line: each action is recorded, with its operator, its reason and its results. */
import type { Cause, ServiceName, Verb } from '../causes.ts'

/** What to act on: named items, all that have a cause now, or a queue. `value`: the edited bytes of a dead letter. */
export type Selection =
  | { items: readonly number[] }
  | { items: readonly [number]; value: Buffer }
  | { cause: Cause; service: ServiceName | null }
  | { queue: string }
  | Record<string, never>

export interface ActionRequest {
  verb: Verb
  selection: Selection
  /** Email of the account, or `user@host` at the command line. */
  operator: string
  reason: string
  /** Items per second, for more than {@link AT_ONCE} items; 1 to 1,000. */
  perSecond?: number | undefined
}

/** Up to so many items are acted on in the transaction of the request; more become a job. */
export const AT_ONCE = 20

export interface Action {
  id: number
  verb: Verb
  selection: Selection
  operator: string
  reason: string
  state: 'RUNNING' | 'PAUSED' | 'ABORTED' | 'DONE'
  perSecond: number | null
  /** Items in all, items whose result is known, items that were changed. */
  items: number
  done: number
  changed: number
  createdAt: Date
  endedAt: Date | null
}

export interface ActionItem {
  item: number
  result: 'changed' | 'unchanged' | 'failed' | null
  /** What became of it, in a sentence. */
  detail: string | null
  at: Date | null
}

/** The request cannot be carried out; nothing was done. `code` is the HTTP status: 404, 409 (the same action runs: `runs`) or 422. */
export class ActionRefused extends Error {
  override name = 'ActionRefused'
  readonly code: 404 | 409 | 422
  readonly runs: Action | undefined

  constructor(code: 404 | 409 | 422, message: string, runs?: Action) {
    super(message)
    this.code = code
    this.runs = runs
  }
}

export interface Actions {
  /** What would be acted on, before anything is done. */
  count(verb: Verb, selection: Selection): Promise<number>
  /**
   * Carries the action out, or, for more items than {@link AT_ONCE}, freezes the set and starts a job.
   * @throws ActionRefused
   */
  act(request: ActionRequest): Promise<Action>
  /** @throws ActionRefused 404, 409 where it has ended */
  change(id: number, to: 'PAUSED' | 'RUNNING' | 'ABORTED', operator: string): Promise<Action>
  /** The latest first. @param before an id */
  list(options: { before?: number | undefined; limit: number }): Promise<Action[]>
  read(id: number): Promise<Action | undefined>
  /** Items in the order of their ids. */
  items(id: number, options: { after?: number | undefined; limit: number; result?: ActionItem['result'] }): Promise<ActionItem[]>
}
