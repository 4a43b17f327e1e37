/**
 * Reserves the cart's stock at Catalog. Nothing here undoes it: a cancelled checkout gives up the hold in our rows, and the reconciler
 * adjusts Catalog. A release without an answer could not be told apart from one that worked.
 */
import type { Fault } from '../causes.ts'
import { faultOfAnswer } from '../clients/http.ts'
import type { Clock } from '../clock.ts'
import type { Checkouts } from '../db/checkouts.ts'
import type { StepName } from '../model.ts'
import { StockWaitTimeout } from '../stock/call-scheduler.ts'
import { StockFault } from '../stock/group.ts'
import type { Stock } from '../stock/stock.ts'
import { CATALOG_UNREACHABLE, type CheckoutRun, Overtaken, StepFault, type Unavailable } from './checkout-run.ts'
import { deferRecord } from './defer-record.ts'
import type { Step } from './saga.ts'
import type { StillOpen } from './still-open.ts'

interface Deps {
  stock: Pick<Stock, 'reserve' | 'releaseLeases'>
  checkouts: Checkouts
  clock: Clock
  stillOpen: StillOpen
  /** @see CheckoutJobDeps.unavailable */
  unavailable: () => Unavailable | undefined
}

export function reserveStock({ stock, checkouts, clock, stillOpen, unavailable }: Deps): Step<StepName, CheckoutRun> {
  return {
    name: 'reserve-stock',

    async do(run) {
      if (run.recoveryPoint === 'reserve-stock') return
      const refusal = unavailable()
      if (refusal) {
        if (run.lease) await stock.releaseLeases(run.lease, run.products)
        const { rejection, fault } = refusal
        throw new StepFault('reserve not sent: a circuit breaker is open', rejection, { retryAfterMs: Number.POSITIVE_INFINITY, fault })
      }
      // A process with the lease may have been paused since. A checkout that waits for its products is checked when it gets them.
      if (run.lease && !(await stillOpen(run))) {
        await stock.releaseLeases(run.lease, run.products)
        throw overtaken()
      }
      const request = { id: run.orderId, attempt: run.attempt, products: run.products, deadline: run.deadline }
      const answer = await stock.reserve(request, run.lease).catch((error: unknown) => {
        throw faultOf(error)
      })
      if (answer.result === 'ended') throw overtaken()
      if (answer.result === 'done') {
        if (answer.hold) run.record = deferRecord(run, answer.hold, checkouts, clock)
        else run.recoveryPoint = 'reserve-stock'
        return
      }
      if (answer.status === 409 || answer.status === 404) return { status: answer.status, detail: answer.detail }
      if (answer.status === 429)
        throw new StepFault(`catalog reserve: ${answer.detail}`, CATALOG_UNREACHABLE, {
          retryAfterMs: answer.retryAfterMs,
          fault: faultOfRefusal(answer.status),
        })
      // A wrong key or a body that Catalog does not understand: a retry cannot help, and it is not the customer's fault.
      return { status: 503, detail: `Catalog refused the reservation (${answer.status})`, fault: faultOfRefusal(answer.status) }
    },
  }
}

const faultOfRefusal = (status: number): Fault => faultOfAnswer('catalog', status) ?? { cause: 'downstream-error', service: 'catalog' }

const overtaken = () => new Overtaken('checkout ended, was taken over or passed its deadline before its stock was reserved')

function faultOf(error: unknown): unknown {
  if (error instanceof StockWaitTimeout)
    return new StepFault(error.message, { status: 503, detail: 'Too many customers for this product, try again' }, { cause: error })
  if (!(error instanceof StockFault)) return error
  return new StepFault(error.message, CATALOG_UNREACHABLE, { unreachable: !error.sent, retryAfterMs: error.retryAfterMs, cause: error })
}
