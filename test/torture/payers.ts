/** Payment: tells of every order that was paid until Kafka has it, and puts rubbish in between. */
import { setTimeout as sleep } from 'node:timers/promises'
import { openPayments, type PaymentMessage, paymentOf, type Payments } from '../support/payments.ts'
import type { Purchase } from './purchases.ts'

export interface Payers {
  /** Tells of it as the purchase has it. Never throws: what Kafka has not taken is told again. */
  pay(orderId: number, amountCents: number, purchase: Purchase): void
  /** Resolves when Kafka has everything. */
  done(): Promise<void>
  /** Orders that were rightly paid. */
  paid: ReadonlySet<number>
  /** Messages that Kafka has taken, at the least. */
  published(): number
  /** What Kafka has not taken by then is told no more. */
  close(): Promise<void>
}

const rubbish: readonly PaymentMessage[] = [
  { key: null, value: '' },
  { key: 'x', value: '{"type":"payment.succeeded","order_id":' },
  { key: null, value: null },
  { key: '7', value: JSON.stringify({ type: 'payment.refunded', order_id: 7 }) },
  { key: '8', value: JSON.stringify({ type: 'payment.failed', order_id: 8, reason: 'declined', payment_id: 'f-8' }) },
  { key: '9', value: JSON.stringify({ type: 'payment.succeeded', order_id: 'nine', amount_cents: 1, currency: 'USD' }) },
]
/** So many payments between two units of rubbish. */
const RUBBISH_EVERY = 8

/** Makes the topic, and writes a first unreadable message to it. */
export async function openPayers(bootstrap: string, topic: string): Promise<Payers> {
  const payments: Payments = openPayments(bootstrap, topic)
  const paid = new Set<number>()
  const underWay: Promise<void>[] = []
  let published = 0
  let payers = 0
  const closed = new AbortController()
  await payments.publish([rubbish[0]!])
  published += 1

  async function publish(message: PaymentMessage): Promise<void> {
    while (!closed.signal.aborted) {
      try {
        await payments.publish([message])
        published += 1
        return
      } catch {
        await sleep(300)
      }
    }
  }

  async function tellOf(orderId: number, amountCents: number, { payment, envelope, paysAfterMs }: Purchase): Promise<void> {
    const options = { amount_cents: amountCents, currency: 'USD', provider: 'bank', payment_id: `p-${orderId}`, envelope }
    const right = paymentOf(orderId, options)
    payers += 1
    const nth = payers
    await sleep(paysAfterMs)
    if (nth % RUBBISH_EVERY === 0) await publish(rubbish[(nth / RUBBISH_EVERY) % rubbish.length]!)
    if (payment === 'wrong-amount') return publish(paymentOf(orderId, { ...options, amount_cents: amountCents + 1 }))
    paid.add(orderId)
    await publish(right)
    if (payment === 'twice') await publish(right)
    if (payment === 'by-two') await publish(paymentOf(orderId, { ...options, payment_id: `q-${orderId}` }))
  }

  return {
    pay(orderId, amountCents, purchase) {
      if (purchase.payment !== 'none') underWay.push(tellOf(orderId, amountCents, purchase))
    },
    async done() {
      await Promise.all(underWay)
    },
    paid,
    published: () => published,
    close() {
      closed.abort()
      return payments.close()
    },
  }
}
