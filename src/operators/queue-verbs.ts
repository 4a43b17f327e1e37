/** Pausing and resuming queues. Only Redis has the state of a queue: the action is recorded first, and then carried out. */
import type { Queue } from 'bullmq'
import type { ItemOutcome } from '../db/operator-actions.ts'
import type { CheckoutQueue } from '../queues/checkout.ts'
import type { ActionQueue } from '../queues/operator-actions.ts'
import type { PaymentQueue } from '../queues/payment.ts'
import type { StockQueue } from '../queues/stock.ts'
import { ActionRefused, type Selection } from './action.ts'

export interface Queues {
  checkoutQueue: CheckoutQueue
  paymentQueue: PaymentQueue
  stockQueue: StockQueue
  actionQueue: ActionQueue
}

/** @throws ActionRefused 404 where no queue has this name */
export function findQueue({ checkoutQueue, paymentQueue, stockQueue, actionQueue }: Queues, selection: Selection): Queue {
  const name = 'queue' in selection ? selection.queue : ''
  const found = [checkoutQueue, paymentQueue, stockQueue, actionQueue].find(({ queue }) => queue.name === name)
  if (!found) throw new ActionRefused(404, `There is no queue ${JSON.stringify(name)}`)
  return found.queue
}

/** @returns what became of it; `unchanged` where the queue was in that state already. @throws where Redis does not answer */
export async function changeQueue(queue: Queue, verb: 'pause-queue' | 'resume-queue'): Promise<Pick<ItemOutcome, 'result' | 'detail'>> {
  const wasPaused = await queue.isPaused()
  const pauses = verb === 'pause-queue'
  await (pauses ? queue.pause() : queue.resume())
  if (wasPaused === pauses) return { result: 'unchanged', detail: `the queue ${queue.name} was ${pauses ? 'paused' : 'running'} already` }
  return { result: 'changed', detail: pauses ? `the queue ${queue.name} is paused` : `the queue ${queue.name} was resumed` }
}
