/** What operators do, from the pages and from the command line: each action is recorded, with its operator, its reason and its results. */
import type { Cause, ItemKind, ServiceName, Verb } from '../causes.ts'
import type { ItemOutcome } from '../db/operator-actions.ts'
import type { Transaction } from '../db/pool.ts'

/** What to act on: named items, all that have a cause now, or a queue. `value`: the edited bytes of a dead letter. */
export type Selection =
  | { items: readonly number[]; value?: Buffer | undefined }
  | { cause: Cause; service: ServiceName | null }
  /** `job`: one job of the queue; `jobs`: all of its jobs in this state. */
  | { queue: string; job?: string | undefined; jobs?: string | undefined }
  | Record<string, never>

export interface ActionRequest {
  verb: Verb
  selection: Selection
  /** Email of the account, or `user@host` at the command line. */
  operator: string
  reason: string
  /** Items per second, for more than {@link AT_ONCE} items; 1 to {@link MOST_PER_SECOND}. */
  perSecond?: number | undefined
  /** The operator's name in the log, which must not have emails. */
  loggedAs?: string | undefined
}

/** Up to so many items are acted on in the transaction of the request; more become a job. */
export const AT_ONCE = 20
/** More cannot be named one by one. */
export const MOST_NAMED = 1000
export const MOST_PER_SECOND = 1000
/** Where the operator says nothing else: a downstream service that has just come back must not be knocked over. */
export const USUAL_PER_SECOND = 50

export interface Action {
  id: number
  verb: Verb
  selection: Selection
  operator: string
  reason: string
  state: 'RUNNING' | 'PAUSED' | 'ABORTED' | 'DONE'
  perSecond: number | null
  /** Items in all, items whose result is known, items that were changed, and items on which it could not be carried out. */
  items: number
  done: number
  changed: number
  failed: number
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
  /** What would be acted on, before anything is done. @throws ActionRefused 422 */
  count(verb: Verb, selection: Selection): Promise<number>
  /** The first ids of what would be acted on. */
  sample(verb: Verb, selection: Selection, limit: number): Promise<number[]>
  /**
   * Carries the action out, or, for more items than {@link AT_ONCE}, freezes the set and starts a job.
   * @throws ActionRefused
   */
  act(request: ActionRequest): Promise<Action>
  /**
   * Records what is carried out elsewhere, and then carries it out: a change of a queue, or of the whole service.
   * @param run resolves to whether something changed, with a sentence
   */
  recordAround(request: ActionRequest, run: () => Promise<Pick<ItemOutcome, 'result' | 'detail'>>): Promise<Action>
  /**
   * Records what is carried out in the transaction of its record.
   * @param run says what became of it
   */
  inTransaction(request: ActionRequest, run: (tx: Transaction) => Promise<Pick<ItemOutcome, 'result' | 'detail'>>): Promise<Action>
  /** @throws ActionRefused 404, 409 where it has ended */
  change(id: number, to: 'PAUSED' | 'RUNNING' | 'ABORTED', by: Pick<ActionRequest, 'operator' | 'reason' | 'loggedAs'>): Promise<Action>
  /** The latest first. @param before an id */
  list(options: { before?: number | undefined; limit: number }): Promise<Action[]>
  read(id: number): Promise<Action | undefined>
  /** The edited bytes that an action applied. */
  readEdited(id: number): Promise<Buffer | undefined>
  /** Items in the order of their ids. @param options.result null: those without a result */
  items(
    id: number,
    options: { after?: number | undefined; limit: number; result?: ActionItem['result'] | undefined },
  ): Promise<ActionItem[]>
  /** What was done with an item, the latest first. */
  historyOf(kind: ItemKind, item: number, limit: number): Promise<(Action & Omit<ActionItem, 'item'>)[]>
}
