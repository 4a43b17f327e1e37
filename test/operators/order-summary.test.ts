/** The sentence that says where an order stands and what comes next, in every state, and the actions beside it. */
import test from 'ava'
import type { OrderRecords } from '../../src/db/order-records.ts'
import { actionsOf, type Planned, summaryOf } from '../../src/operators/order-summary.ts'

const at = new Date('2026-11-28T14:00:00Z')
const now = new Date('2026-11-28T14:00:10Z')
const later = new Date('2026-11-28T14:00:20Z')

const nothing: OrderRecords = {
  order: null,
  checkout: null,
  events: [],
  payments: [],
  letters: [],
  operatorActions: [],
  products: [],
  isDrained: false,
}

const checkout: NonNullable<OrderRecords['checkout']> = {
  email: 'ada@example.com',
  idempotency_key: 'k',
  state: 'OPEN',
  recovery_point: 'intent',
  lines: [{ product_id: 17, qty: 1, unit_price_cents: 1299, title_snapshot: 'Air Zoom' }],
  address: null,
  total_cents: 1299,
  currency: 'USD',
  deadline_at: later,
  attempt: 2,
  last_error: null,
  cause: null,
  service: null,
  outcome: null,
  history: [],
  created_at: at,
  updated_at: at,
  pruned_at: null,
}
const created = { ...checkout, state: 'CREATED' as const, recovery_point: 'reserve-stock' as const }
const order: NonNullable<OrderRecords['order']> = {
  status: 'CREATED',
  email: 'ada@example.com',
  total_cents: 1299,
  currency: 'USD',
  created_at: at,
  updated_at: at,
  lines: checkout.lines,
}
const payment: OrderRecords['payments'][number] = {
  id: 5,
  type: 'payment.succeeded',
  state: 'WAITING',
  result: null,
  amount_cents: 1299,
  currency: 'USD',
  provider: 'card',
  payment_id: 'p',
  last_error: null,
  cause: null,
  service: null,
  history: [],
  topic: 'payment.events',
  partition: 0,
  kafka_offset: 1,
  sent_at: at,
  received_at: at,
  waiting_since: at,
  touched_at: at,
}
const letter: OrderRecords['letters'][number] = {
  id: 9,
  event_id: 5,
  fault: 'wrong-amount',
  reason: '1 USD was paid, but order 42 costs 1299 USD',
  state: 'WAITING',
  note: null,
  times: 1,
  first_at: at,
  last_at: at,
}
const product: OrderRecords['products'][number] = {
  product_id: 17,
  call_verb: null,
  call_qty: null,
  call_expires_at: null,
  is_ours: false,
  is_settling: false,
}
const nowhere: Planned = { checkout: undefined, payments: new Map() }
const facts = (records: Partial<OrderRecords>, planned: Partial<Planned> = {}) => ({
  orderId: 42,
  records: { ...nothing, ...records },
  planned: { ...nowhere, ...planned },
  eventTopic: 'order.events',
  now,
})
const timedOut = { cause: 'downstream-timeout', service: 'catalog' } as const
const outcome = { status: 503, detail: 'Catalog does not answer' }

const cases: { name: string; records: Partial<OrderRecords>; planned?: Partial<Planned>; says: string; actions?: string[] }[] = [
  {
    name: 'an open checkout',
    records: { checkout },
    says: 'Open: its stock is being reserved; it is cancelled at 2026-11-28 14:00:20 UTC unless it succeeds.',
    actions: ['cancel-checkouts 42'],
  },
  {
    name: 'an open checkout that is retried',
    records: { checkout: { ...checkout, ...timedOut } },
    planned: { checkout: new Date('2026-11-28T14:00:12Z') },
    says: 'Open and retried, because Catalog does not answer in time (attempt 2): the next attempt comes at 2026-11-28 14:00:12 UTC, and it is cancelled at 2026-11-28 14:00:20 UTC unless it succeeds.',
    actions: ['retry-checkouts 42', 'cancel-checkouts 42'],
  },
  {
    name: 'an open checkout that is retried while Redis does not answer',
    records: { checkout: { ...checkout, ...timedOut } },
    planned: { checkout: 'unknown' },
    says: 'Open and retried, because Catalog does not answer in time (attempt 2): the next attempt comes at an unknown time, because Redis does not answer, and it is cancelled at 2026-11-28 14:00:20 UTC unless it succeeds.',
    actions: ['retry-checkouts 42', 'cancel-checkouts 42'],
  },
  {
    name: 'an open checkout past its deadline',
    records: { checkout: { ...checkout, ...timedOut, deadline_at: at } },
    says: 'Open and retried, because Catalog does not answer in time (attempt 2): its deadline has passed, and it is cancelled within seconds.',
    actions: ['retry-checkouts 42', 'cancel-checkouts 42'],
  },
  {
    name: 'an open checkout that waits for its product',
    records: { checkout, products: [{ ...product, call_verb: 'commit', call_qty: 3, call_expires_at: later }] },
    says: 'Open, and waits for product 17: another call to Catalog (commit 3) is under way. It goes on when that call ends, and it is cancelled at 2026-11-28 14:00:20 UTC unless it succeeds.',
    actions: ['cancel-checkouts 42'],
  },
  {
    name: 'an unpaid order',
    records: { checkout: created, order },
    says: 'Created, and not paid: it waits for its payment.',
  },
  {
    name: 'an unpaid order of the predecessor',
    records: { order },
    says: 'Created, an order of the predecessor, and not paid: it waits for its payment.',
  },
  {
    name: 'an unpaid order while the service is drained',
    records: { checkout: created, order, isDrained: true },
    says: 'Created, and not paid: the service is drained, so a payment waits on its topic until the drain is ended.',
  },
  {
    name: 'an order whose payment waits',
    records: { checkout: created, order, payments: [{ ...payment, ...timedOut }] },
    planned: { payments: new Map([[5, later]]) },
    says: 'Created, and not paid: its payment waits, because Catalog does not answer in time; the next try comes at 2026-11-28 14:00:20 UTC.',
    actions: ['retry-payments 5'],
  },
  {
    name: 'an order whose payment is a dead letter',
    records: { checkout: created, order, payments: [{ ...payment, state: 'DEAD' }], letters: [letter] },
    says: 'Created, and not paid: its payment is dead letter 9 (1 USD was paid, but order 42 costs 1299 USD), and a person must decide.',
    actions: ['replay-letters 9', 'edit-letter 9', 'discard-letters 9'],
  },
  {
    name: 'an order whose payment was discarded',
    records: {
      checkout: created,
      order,
      payments: [{ ...payment, state: 'DEAD' }],
      letters: [{ ...letter, state: 'DISCARDED', note: 'refunded' }],
    },
    says: 'Created, and not paid: its payment was discarded (refunded), and no other has been received.',
  },
  {
    name: 'a paid order',
    records: { checkout: created, order: { ...order, status: 'PAID' } },
    says: 'Paid at 2026-11-28 14:00:00 UTC: nothing more is to be done.',
  },
  {
    name: 'a paid order whose details were pruned',
    records: { checkout: { ...created, pruned_at: later }, order: { ...order, status: 'PAID' } },
    says: 'Paid at 2026-11-28 14:00:00 UTC: nothing more is to be done; details of its checkout were removed at 2026-11-28 14:00:20 UTC, after the retention period.',
  },
  {
    name: 'a rejected checkout',
    records: { checkout: { ...checkout, state: 'REJECTED', outcome: { status: 409, detail: 'Not enough stock' } } },
    says: 'Rejected (409: Not enough stock): nothing was held, and no order was made.',
  },
  {
    name: 'a cancelled checkout',
    records: { checkout: { ...checkout, state: 'CANCELLED', outcome }, products: [product] },
    says: 'Cancelled (503: Catalog does not answer): no order was made, and nothing is held for it.',
  },
  {
    name: 'a cancelled checkout whose hold is being given back',
    records: { checkout: { ...checkout, state: 'CANCELLED', outcome }, products: [{ ...product, is_settling: true }] },
    says: 'Cancelled (503: Catalog does not answer): no order was made, and the reconciler is still giving back what it held of product 17.',
    actions: ['reconcile-products 17'],
  },
  {
    name: 'a cancelled checkout that was paid',
    records: { checkout: { ...checkout, state: 'CANCELLED', outcome }, letters: [{ ...letter, fault: 'cancelled' }] },
    says: 'Cancelled (503: Catalog does not answer): no order was made, and nothing is held for it, but a payment for it is dead letter 9 (a payment does not fit its order), and a person must decide.',
    actions: ['replay-letters 9', 'edit-letter 9', 'discard-letters 9'],
  },
  {
    name: 'an order that others cancelled',
    records: { order: { ...order, status: 'CANCELLED' } },
    says: 'CANCELLED, not set by this service, an order of the predecessor: nothing more happens by itself.',
  },
]

for (const { name, records, planned, says, actions = [] } of cases) {
  test(`the summary of ${name} says what comes next`, (t) => {
    t.is(summaryOf(facts(records, planned)), says)
    t.deepEqual(
      actionsOf(facts(records, planned)).map(({ verb, item }) => `${verb} ${item}`),
      actions,
    )
  })
}
