/**
 * How operators' verbs act on items: each acts on a set of them in the transaction that records it, and then wakes those who go on with the
 * work. Should the process die in between, rescuer, reconciler and relay find the work by themselves.
 */
import type { Verb } from '../causes.ts'
import { endAll } from '../db/end-checkouts.ts'
import { LOCKED } from '../db/locked.ts'
import type { ItemOutcome } from '../db/operator-actions.ts'
import {
  acceptAmbiguities,
  having,
  markToReconcile,
  offerAgain,
  readCheckoutStates,
  touchCheckouts,
  touchPayments,
} from '../db/operator-verbs.ts'
import type { CheckoutQueue } from '../queues/checkout.ts'
import type { PaymentQueue } from '../queues/payment.ts'
import type { JobState } from '../queues/queue-state.ts'
import type { StockQueue } from '../queues/stock.ts'
import { changed, failed, type ItemVerb, LOCKED_ROW, unchanged } from './item-verb.ts'
import { letterVerbs } from './letter-verbs.ts'

/** What verbs need besides PostgreSQL. */
export interface VerbDeps {
  /** The command line connects at the first call. */
  queues(): Promise<{
    checkoutQueue: Pick<CheckoutQueue, 'retryNow' | 'jobStates'>
    paymentQueue: Pick<PaymentQueue, 'retryNow' | 'jobStates'>
    stockQueue: Pick<StockQueue, 'wake'>
  }>
  /** Counts checkouts that this process cancelled. */
  cancelled?: ((checkouts: number) => void) | undefined
}

/** The verbs that act on items. The others concern a queue or the whole service. */
export type ItemVerbName = Extract<
  Verb,
  | 'retry-payments'
  | 'retry-checkouts'
  | 'cancel-checkouts'
  | 'reconcile-products'
  | 'accept-inventory'
  | 'republish-events'
  | 'replay-letters'
  | 'edit-letter'
  | 'discard-letters'
>

export function createVerbs(deps: VerbDeps): Record<ItemVerbName, ItemVerb> {
  return {
    'retry-payments': retryPayments(deps),
    'retry-checkouts': retryCheckouts(deps),
    'cancel-checkouts': cancelCheckouts(deps),
    'reconcile-products': reconcileProducts(deps),
    'accept-inventory': acceptInventory(deps),
    'republish-events': republishEvents,
    ...letterVerbs(deps),
  }
}

/** Results by id; ids without a row are `missing`. */
function outcomesOf<Row>(
  ids: readonly number[],
  rows: ReadonlyMap<number, Row>,
  outcome: (id: number, row: Row) => ItemOutcome,
  missing: string,
): ItemOutcome[] {
  return ids.map((id) => {
    const row = rows.get(id)
    return row === undefined ? failed(id, missing) : outcome(id, row)
  })
}

async function jobsById(queue: Pick<PaymentQueue, 'jobStates'>, ids: readonly number[]): Promise<Map<number, JobState>> {
  const states = await queue.jobStates(ids)
  return new Map(ids.map((id, at) => [id, states[at]!]))
}

const isBusy = (state: JobState | undefined) => state === 'active' || state === 'waiting'
const busy = (id: number, state: JobState | undefined) =>
  unchanged(id, state === 'active' ? 'a worker is processing it' : 'its job already waits for a worker')

function retryPayments({ queues }: VerbDeps): ItemVerb {
  return {
    having: having.payments,
    prepare: async (ids) => jobsById((await queues()).paymentQueue, ids),
    async act(tx, ids, { jobs }) {
      const rows = await touchPayments(
        tx,
        ids.filter((id) => !isBusy(jobs.get(id))),
      )
      const byId = new Map(rows.map((row) => [row.id, row]))
      const outcomes = ids.map((id) => {
        if (isBusy(jobs.get(id))) return busy(id, jobs.get(id))
        const row = byId.get(id)
        if (!row) return failed(id, 'no payment has this id')
        if (row.state === 'WAITING') return row.is_touched ? changed(id, `tried now, for order ${row.order_id}`) : failed(id, LOCKED_ROW)
        return unchanged(id, `it is already ${row.state}`)
      })
      const touched = rows.filter((row) => row.is_touched).map((row) => ({ eventId: row.id, orderId: row.order_id }))
      return { outcomes, after: async () => (await queues()).paymentQueue.retryNow(touched) }
    },
  }
}

function retryCheckouts({ queues }: VerbDeps): ItemVerb {
  return {
    having: having.checkouts,
    prepare: async (ids) => jobsById((await queues()).checkoutQueue, ids),
    async act(tx, ids, { jobs }) {
      const delayed = ids.filter((id) => jobs.get(id) === 'delayed')
      const rows = await touchCheckouts(
        tx,
        ids.filter((id) => !isBusy(jobs.get(id))),
        delayed,
      )
      const byId = new Map(rows.map((row) => [row.orderId, row]))
      const outcomes = ids.map((id) => {
        if (isBusy(jobs.get(id))) return busy(id, jobs.get(id))
        const row = byId.get(id)
        if (!row) return failed(id, 'no checkout has this id')
        if (row.state !== 'OPEN') return unchanged(id, `it is already ${row.state}`)
        if (row.isTouched) return changed(id, 'tried now')
        if (row.isLate) return unchanged(id, 'its deadline has passed: it is being cancelled')
        return row.isAtWork ? unchanged(id, 'a worker is processing it') : failed(id, LOCKED_ROW)
      })
      const touched = rows.filter((row) => row.isTouched)
      return { outcomes, after: async () => (await queues()).checkoutQueue.retryNow(touched) }
    },
  }
}

/** What the customer of a cancelled checkout gets. */
const CANCELLED = { status: 503, detail: 'The checkout was cancelled by an operator' }

function cancelCheckouts({ queues, cancelled }: VerbDeps): ItemVerb {
  return {
    having: having.checkouts,
    async act(tx, ids) {
      const ended = await endAll(
        tx,
        ids.map((orderId) => ({ orderId, attempt: undefined, state: 'CANCELLED' as const, ...CANCELLED })),
      )
      const states = await readCheckoutStates(tx, ids)
      const outcomes = ids.map((id, at) => {
        const one = ended[at]
        if (one === LOCKED) return failed(id, states.has(id) ? LOCKED_ROW : 'no checkout has this id')
        if (one) return changed(id, 'cancelled; what it held is given back')
        return unchanged(id, `it is already ${states.get(id)}`)
      })
      const products = ended.flatMap((one) => (one && one !== LOCKED ? one.toReconcile : []))
      const count = outcomes.filter(({ result }) => result === 'changed').length
      let isCounted = false
      return {
        outcomes,
        async after() {
          if (!isCounted) cancelled?.(count)
          isCounted = true
          if (products.length > 0) await (await queues()).stockQueue.wake([...new Set(products)])
        },
      }
    },
  }
}

function reconcileProducts({ queues }: VerbDeps): ItemVerb {
  return {
    having: having.products,
    async act(tx, ids) {
      const marked = new Set(await markToReconcile(tx, ids))
      const outcomes = ids.map((id) =>
        marked.has(id) ? changed(id, 'compared with Catalog now') : failed(id, 'this product is unknown: no checkout has contained it yet'),
      )
      return { outcomes, after: async () => (await queues()).stockQueue.wake([...marked]) }
    },
  }
}

/**
 * What we expect follows what Catalog has at every check anyway. So accepting changes what is listed: the other explanation counts as ruled
 * out. Then Catalog is read once more.
 */
function acceptInventory({ queues }: VerbDeps): ItemVerb {
  return {
    having: having.products,
    async act(tx, ids) {
      const rows = await acceptAmbiguities(tx, ids)
      const accepted = new Map(rows.map((row) => [row.product_id, row]))
      const known = new Set(await markToReconcile(tx, [...accepted.keys()]))
      const outcomes = ids.map((id) => {
        const row = accepted.get(id)
        if (!row) return unchanged(id, 'nothing of this product is ambiguous')
        const units = [row.too_many > 0 && `up to ${row.too_many} too many`, row.too_few > 0 && `up to ${row.too_few} too few`]
        const entries = row.entries === 1 ? '1 entry is' : `${row.entries} entries are`
        return changed(id, `${entries} no longer listed (${units.filter(Boolean).join(', ')}); the expected stock follows Catalog’s`)
      })
      return { outcomes, after: async () => (await queues()).stockQueue.wake([...known]) }
    },
  }
}

const republishEvents: ItemVerb = {
  having: having.events,
  async act(tx, ids) {
    const rows = new Map((await offerAgain(tx, ids)).map((row) => [row.id, row]))
    return {
      outcomes: outcomesOf(
        ids,
        rows,
        (id, row) => {
          if (row.is_offered) return changed(id, 'the relay sends it to Kafka again')
          if (row.is_sent) return unchanged(id, 'Kafka has accepted it already')
          return row.is_undeliverable ? failed(id, LOCKED_ROW) : unchanged(id, 'it is not undeliverable: the relay sends it')
        },
        'no event has this id',
      ),
    }
  },
}
