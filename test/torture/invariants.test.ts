/** The checker against evidence that is wrong in one point each. */
import test, { type ExecutionContext } from 'ava'
import type { Answer, Told } from './customers.ts'
import type { Purchase } from './purchases.ts'
import type { Evidence } from './evidence.ts'
import { unitsOff, tooManyOff, violationsOf } from './invariants.ts'

const answer = (status: number, changes: Partial<Answer> = {}): Answer => ({
  status,
  orderId: undefined,
  unknown: false,
  totalCents: undefined,
  askedAt: 1000,
  ...changes,
})

function told(name: string, qty: number, answers: Answer[]): Told {
  const purchase: Purchase = {
    email: `${name}@example.com`,
    key: 'key',
    atMs: 0,
    lines: [{ product_id: 1, qty }],
    impatient: false,
    doubleClick: false,
    payment: 'once',
    envelope: false,
    paysAfterMs: 0,
  }
  return { purchase, answers, last: answers.at(-1) }
}

const event = (orderId: number, type: string, id = `${type}-${orderId}`) => ({
  key: String(orderId),
  event: { event_id: id, sequence: 1, order_id: orderId, type },
})

/** Ada's order 11 of two units is PAID, Bob's 12 of one unit is not, and Eve got nothing. */
function aSeed(): Evidence {
  return {
    told: [
      told('ada', 2, [answer(0), answer(503, { orderId: 10 }), answer(200, { orderId: 11, totalCents: 2000 })]),
      told('bob', 1, [answer(503, { unknown: true, orderId: 12 }), answer(200, { orderId: 12, totalCents: 1000, askedAt: 3000 })]),
      told('eve', 5, [answer(409, { orderId: 13 })]),
    ],
    orders: [
      { id: 11, email: 'ada@example.com', status: 'PAID', totalCents: 2000, createdAt: 2000, items: [{ productId: 1, qty: 2 }] },
      { id: 12, email: 'bob@example.com', status: 'CREATED', totalCents: 1000, createdAt: 2000, items: [{ productId: 1, qty: 1 }] },
    ],
    shelf: [{ productId: 1, stockBefore: 10, heldBefore: 3, others: 0, inStock: 8, reserved: 4 }],
    commits: [11],
    shipments: [11, 12, 13],
    events: [event(11, 'order.created'), event(12, 'order.created'), event(11, 'order.created'), event(11, 'order.paid')],
    paid: new Set([11]),
    messages: 4,
    totals: { consumed: 5, applied: 1, duplicate: 1, dead: 2, waiting: 0, ignored: 1 },
    paying: [11],
    rows: [{ productId: 1, inStock: 8, reserved: 4 }],
    miscounts: [],
    follows: [],
    calls: [],
    products: [],
    reconciliations: [],
    ambiguities: [],
    unansweredCalls: [],
    corrections: 0,
    open: [],
    endings: [{ process: 'web-1', code: 0, ms: 2000 }],
  }
}

/** @param change makes the evidence wrong in one point */
function finds(t: ExecutionContext, change: (evidence: Evidence) => Partial<Evidence>, ...expected: string[]): void {
  const evidence = aSeed()
  t.deepEqual(violationsOf({ ...evidence, ...change(evidence) }), expected)
}
const withOrder = (evidence: Evidence, i: number, changes: object) =>
  evidence.orders.map((order, n) => (n === i ? { ...order, ...changes } : order))
const withTold = (evidence: Evidence, i: number, answers: Answer[]) =>
  evidence.told.map((one, n) => (n === i ? { ...one, answers, last: answers.at(-1) } : one))

test('a run without faults has no violations', (t) => finds(t, () => ({})))

test('a customer whose 200 has no order is a violation', (t) =>
  finds(
    t,
    (evidence) => ({ told: withTold(evidence, 2, [answer(200, { orderId: 13, totalCents: 5000 })]) }),
    'customers: eve@example.com key: was told of order 13, which does not stand',
    'answers: eve@example.com key: a 200 named order 13, which does not stand',
  ))

test('an order that no customer was told of, or of other products, is a violation', (t) => {
  finds(
    t,
    (evidence) => ({ told: withTold(evidence, 1, [answer(409)]) }),
    'customers: order 12 of bob@example.com: nobody was last told of it',
  )
  finds(
    t,
    (evidence) => ({
      told: evidence.told.map((one, n) => (n === 1 ? { ...one, purchase: { ...one.purchase, lines: [{ product_id: 2, qty: 1 }] } } : one)),
    }),
    'customers: bob@example.com key: order 12 is of other things',
  )
})

test('two customers with one order, or one without an answer, are violations', (t) => {
  finds(
    t,
    (evidence) => ({ told: withTold(evidence, 2, [answer(200, { orderId: 12, totalCents: 1000 })]) }),
    "customers: eve@example.com key: was told of order 12, which is somebody else's",
    'customers: eve@example.com key: has order 12 together with bob@example.com key',
  )
  finds(t, (evidence) => ({ told: withTold(evidence, 2, []) }), 'customers: eve@example.com key: never heard anything for certain')
})

test('an early answer that the final state contradicts is a violation', (t) => {
  const answers = (...all: Answer[]) => [...all, answer(200, { orderId: 12, totalCents: 1000 })]
  finds(
    t,
    (evidence) => ({ told: withTold(evidence, 1, answers(answer(503, { orderId: 12 }))) }),
    'answers: bob@example.com key: a 503 named order 12, which stands',
  )
  finds(
    t,
    (evidence) => ({ told: withTold(evidence, 1, answers(answer(503, { askedAt: 2500 }))) }),
    'answers: bob@example.com key: a 503 denied order 12, which stood',
  )
  finds(
    t,
    (evidence) => ({ told: withTold(evidence, 1, answers(answer(200, { orderId: 12, totalCents: 1 }))) }),
    'answers: bob@example.com key: a 200 said 1 of order 12, which is 1000',
  )
})

test('holds at Catalog that differ from the orders, or from the product row, are a violation', (t) =>
  finds(
    t,
    (evidence) => ({ shelf: [{ ...evidence.shelf[0]!, reserved: 5 }] }),
    'stock: product 1: Catalog holds 5, our orders 4',
    'stock: product 1: Catalog holds 5, our row 4',
  ))

test('stock that differs from the paid orders is a violation, unless it is listed', (t) => {
  const shelf = (evidence: Evidence) => [{ ...evidence.shelf[0]!, inStock: 7 }]
  finds(
    t,
    (evidence) => ({ shelf: shelf(evidence) }),
    'stock: product 1: Catalog has 7, our row 8',
    "stock: product 1: Catalog's stock is off by -1, others brought 0, and our row followed 0",
    "stock: product 1: Catalog's stock is off by -1; listed as ambiguous: 0 too many, 0 too few",
  )
  const rows = [{ productId: 1, inStock: 7, reserved: 4 }]
  const follow = { productId: 1, followed: -1, tooMany: 0, tooFew: 1 }
  finds(t, (evidence) => ({ shelf: shelf(evidence), rows, follows: [follow] }))
  finds(
    t,
    (evidence) => ({ shelf: shelf(evidence), rows, follows: [{ ...follow, tooMany: 1, tooFew: 0 }] }),
    "stock: product 1: Catalog's stock is off by -1; listed as ambiguous: 1 too many, 0 too few",
  )
  finds(
    t,
    (evidence) => ({ shelf: shelf(evidence), rows, follows: [{ ...follow, followed: -2, tooFew: 2 }] }),
    "stock: product 1: Catalog's stock is off by -1, others brought 0, and our row followed -2",
  )
  t.deepEqual(unitsOff({ orders: aSeed().orders, shelf: shelf(aSeed()) }), [{ productId: 1, units: -1 }])
})

test('stock that others took away is no violation where the product row followed it', (t) => {
  const shelf = (evidence: Evidence) => [{ ...evidence.shelf[0]!, others: -1, inStock: 7 }]
  const rows = [{ productId: 1, inStock: 7, reserved: 4 }]
  finds(t, (evidence) => ({ shelf: shelf(evidence), rows, follows: [{ productId: 1, followed: -1, tooMany: 0, tooFew: 0 }] }))
  finds(
    t,
    (evidence) => ({ shelf: [{ ...evidence.shelf[0]!, others: -1 }] }),
    "stock: product 1: Catalog's stock is off by 1; listed as ambiguous: 0 too many, 0 too few",
  )
})

test('a counter that is not the sum of its orders is a violation', (t) =>
  finds(
    t,
    () => ({ miscounts: [{ productId: 1, counted: 3, held: 4 }] }),
    'counters: product 1: counted 3, orders and open checkouts add up to 4',
  ))

test('two calls of the service at once on one product are a violation, on different products they are not', (t) => {
  const call = (key: string, products: number[], from: number) => ({ call: 'reserve', key, products, from, to: from + 3 })
  finds(t, () => ({ calls: [call('a', [1, 2], 10), call('b', [3], 11), call('c', [2], 14)] }))
  finds(t, () => ({ calls: [call('b', [2], 11), call('a', [1, 2], 10)] }), 'overlaps: product 2: reserve a and reserve b overlapped')
})

test('one unit in ten thousand may be wrong, two are a violation', (t) => {
  t.deepEqual(tooManyOff(1, 10_000), [])
  t.deepEqual(tooManyOff(2, 10_000), ["2 of 10000 units are wrong in Catalog's stock"])
})

test('an order without a shipment, with two, or with a second draft is a violation', (t) => {
  finds(t, () => ({ shipments: [11] }), 'shipments: order 12: 0 shipments')
  finds(t, () => ({ shipments: [11, 12, 12] }), 'shipments: order 12: 2 shipments')
  finds(t, () => ({ shipments: [11, 12, 13, 13] }), 'shipments: checkout 13, no order: 2 drafts')
})

test('events that are missing, of no order, out of order, or under another key are violations', (t) => {
  finds(t, ({ events }) => ({ events: events.filter(({ key }) => key !== '12') }), 'events: order 12, CREATED: its events are none')
  finds(t, ({ events }) => ({ events: [...events, event(13, 'order.created')] }), 'events: order.created of 13, which is no order')
  finds(t, ({ events }) => ({ events: events.toReversed() }), 'events: order 11, PAID: its events are order.paid, order.created')
  finds(
    t,
    ({ events }) => ({ events: [...events, event(12, 'order.created', 'another id')] }),
    'events: order 12, CREATED: its events are order.created, order.created',
  )
  finds(
    t,
    ({ events }) => ({ events: events.map((one) => (one.key === '12' ? { ...one, key: '11' } : one)) }),
    'events: an event of order 12 has the key 11',
  )
})

test('an order that was paid and is not PAID, or the other way round, is a violation', (t) => {
  finds(t, () => ({ paid: new Set([11, 12]) }), 'payments: order 12: was paid, and is CREATED')
  finds(t, () => ({ paid: new Set<number>() }), 'payments: order 11: was not paid, and is PAID')
})

test('a PAID order without a commit, a commit without a PAID order, and an order paid by two events are violations', (t) => {
  finds(t, () => ({ commits: [] }), 'payments: order 11: is PAID, and Catalog committed nothing')
  finds(t, () => ({ commits: [11, 12] }), 'payments: order 12: is CREATED, and Catalog committed it')
  finds(t, () => ({ paying: [11, 11] }), 'payments: order 11: is PAID, by 2 payment events')
})

test('totals of the bridge that do not balance, or lack messages, are a violation', (t) => {
  finds(
    t,
    ({ totals }) => ({ totals: { ...totals, dead: 1 } }),
    'totals: the bridge consumed 5: {"applied":1,"duplicate":1,"dead":1,"waiting":0,"ignored":1}',
  )
  finds(t, () => ({ messages: 6 }), 'totals: the bridge consumed 5 of 6 messages')
})

test('work that is open in the end, and processes that did not end well, are violations', (t) => {
  finds(t, () => ({ open: ['checkout 14'] }), 'nothing open: still open: checkout 14')
  finds(
    t,
    () => ({
      endings: [
        { process: 'web-1', code: 1, ms: 10 },
        { process: 'relay-2', code: 0, ms: 30_000 },
      ],
    }),
    'endings: web-1: ended with 1 on SIGTERM',
    'endings: relay-2: took 30000 ms to end on SIGTERM',
  )
})

test('an order with an unknown status is a violation', (t) =>
  finds(
    t,
    (evidence) => ({ orders: withOrder(evidence, 1, { status: 'LOST' }) }),
    'stock: product 1: Catalog holds 4, our orders 3',
    'payments: order 12: was not paid, and is LOST',
  ))
