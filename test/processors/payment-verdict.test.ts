import test from 'ava'
import type { Payable } from '../../src/db/payments.ts'
import { judge, type VerdictOptions } from '../../src/processors/payment-verdict.ts'

const order = { status: 'CREATED', totalCents: 2000, currency: 'USD', products: [{ productId: 1, qty: 2 }] }
const payable = (changes: Partial<Payable> = {}): Payable => ({
  orderId: 7,
  amountCents: 2000,
  currency: 'USD',
  waitedMs: 0,
  sentAt: new Date(),
  order,
  checkout: 'CREATED',
  paidByAnother: false,
  ...changes,
})
const options: VerdictOptions = { graceMs: 10_000, amountCheck: 'strict' }
const paid = { ...order, status: 'PAID' }

test('an order that is CREATED, and paid to the cent, is to be paid', (t) => {
  t.deepEqual(judge(payable(), options), { verdict: 'pay', order })
})

test('an order of the predecessor, which has no checkout, is to be paid', (t) => {
  t.is(judge(payable({ checkout: undefined }), options).verdict, 'pay')
})

const early: [string, Payable['checkout'], string][] = [
  ['there is no order yet', undefined, 'there is no order 7'],
  ['its checkout is under way', 'OPEN', 'checkout 7 is still OPEN'],
]
for (const [what, checkout, reason] of early) {
  test(`where ${what} the payment waits, and is dead when the grace is over`, (t) => {
    const missing = { order: undefined, checkout }
    t.deepEqual(judge(payable({ ...missing, waitedMs: 9999 }), options), { verdict: 'wait', reason })
    t.deepEqual(judge(payable({ ...missing, waitedMs: 10_000 }), options), {
      verdict: 'dead',
      fault: 'unknown-order',
      reason: `${reason} after 10 s`,
    })
  })
}

for (const checkout of ['REJECTED', 'CANCELLED'] as const) {
  test(`a checkout that is ${checkout} never becomes an order: the payment is dead at once`, (t) => {
    t.like(judge(payable({ order: undefined, checkout }), options), { verdict: 'dead', fault: 'cancelled' })
  })
}

const wrong: [string, Partial<Payable>, string][] = [
  ['a cent too little', { amountCents: 1999 }, '1999 USD was paid, but order 7 costs 2000 USD'],
  ['too much', { amountCents: 200_000 }, '200000 USD was paid, but order 7 costs 2000 USD'],
  ['another currency', { currency: 'EUR' }, '2000 EUR was paid, but order 7 costs 2000 USD'],
  ['no amount', { amountCents: null }, 'no amount USD was paid, but order 7 costs 2000 USD'],
  ['no currency', { currency: null }, '2000 without a currency was paid, but order 7 costs 2000 USD'],
  ['a cent too little, of an order that is PAID', { amountCents: 1999, order: paid }, '1999 USD was paid, but order 7 costs 2000 USD'],
]
for (const [what, changes, reason] of wrong) {
  test(`a payment with ${what} is left to a person, unless amounts are not checked`, (t) => {
    t.deepEqual(judge(payable(changes), options), { verdict: 'dead', fault: 'wrong-amount', reason })
    t.not(judge(payable(changes), { ...options, amountCheck: 'off' }).verdict, 'dead')
  })
}

test('an order that is PAID was paid by this payment, unless another one is known to have done it', (t) => {
  t.deepEqual(judge(payable({ order: paid }), options), { verdict: 'already-paid' })
  t.like(judge(payable({ order: paid, paidByAnother: true }), options), { verdict: 'dead', fault: 'second-payment' })
})

test('an order of any other status is not paid', (t) => {
  t.deepEqual(judge(payable({ order: { ...order, status: 'CANCELLED' } }), options), {
    verdict: 'dead',
    fault: 'cancelled',
    reason: 'order 7 is CANCELLED',
  })
})
