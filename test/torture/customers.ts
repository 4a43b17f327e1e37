/** Customers who repeat their checkouts with their keys until they know, and pay what they got. */
import { setTimeout as sleep } from 'node:timers/promises'
import fetch from 'node-fetch'
import type { Downstreams } from '../support/downstreams/index.ts'
import { demoAddress } from '../support/shop.ts'
import type { Purchase } from './purchases.ts'

/** What the service said to one request. */
export interface Answer {
  /** 0: there was no answer. */
  status: number
  /** The header, where there was one. */
  orderId: number | undefined
  /** It said itself that it cannot say what became of it. */
  unknown: boolean
  totalCents: number | undefined
  /** When it was asked, epoch ms. */
  askedAt: number
}

/** An purchase and all that was answered, in the order of the answers. */
export interface Told {
  purchase: Purchase
  answers: Answer[]
  /** What the customer goes by in the end; undefined where time was over before anybody said anything for certain. */
  last: Answer | undefined
}

export interface CustomersOptions {
  urls: readonly string[]
  downstreams: Pick<Downstreams, 'auth' | 'cart'>
  /** They ask again whenever nothing is certain; aborted, they give up. */
  signal: AbortSignal
  /** Resolves when nothing strikes any more: a request that got no answer is no longer under way a moment later. */
  calm: Promise<unknown>
  /** Called once for each purchase that got its order. */
  ordered(told: Told & { last: Answer }): void
  timeoutMs: number
}

const PAUSE_MS = 250

/** Resolves when all customers know. */
export async function runPurchases(purchases: readonly Purchase[], options: CustomersOptions): Promise<Told[]> {
  const began = performance.now()
  const byCustomer = [...Map.groupBy(purchases, ({ email }) => email).values()]
  const told = await Promise.all(
    byCustomer.map(async (own) => {
      const results: Told[] = []
      for (const purchase of own) {
        await sleep(Math.max(0, purchase.atMs - (performance.now() - began)))
        results.push(await runPurchase(purchase, options))
      }
      return results
    }),
  )
  return told.flat()
}

async function runPurchase(purchase: Purchase, { urls, downstreams, signal, calm, ordered, timeoutMs }: CustomersOptions): Promise<Told> {
  const told: Told = { purchase, answers: [], last: undefined }
  const token = downstreams.auth.token({ sub: purchase.email, expiresInS: 60 * 60 })
  let at = purchase.atMs % urls.length
  let isCalm = false

  async function ask(url: string): Promise<Answer> {
    const answer = await checkout(url, token, purchase.key, timeoutMs)
    told.answers.push(answer)
    return answer
  }

  await fillCart()
  for (let asked = 0; ; asked += 1) {
    const url = urls[at % urls.length]!
    const other = urls[(at + 1) % urls.length]!
    const answers = await Promise.all(purchase.doubleClick && asked === 0 ? [ask(url), ask(other)] : [ask(url)])
    const right = answers.find(({ status }) => status === 200)
    // Of two answers at once nobody can say which was the last one.
    const refusal = answers.length === 1 ? answers.find((answer) => isFinal(answer, purchase)) : undefined
    if (right) {
      told.last = right
      ordered({ ...told, last: right })
      return told
    }
    // What got no answer may lie in a process that is stopped, and become an order when that one wakes.
    const mayCome = !isCalm && told.answers.some(({ status, unknown }) => status === 0 || unknown)
    if (refusal && !mayCome) {
      told.last = refusal
      return told
    }
    if (signal.aborted) return told
    if (refusal) {
      await calm
      isCalm = true
      await sleep(4 * PAUSE_MS)
    }
    if (answers[0]!.status === 0 || answers[0]!.status >= 500) at += 1
    // Redis came back empty, and the cart with it.
    if (answers[0]!.status === 400) await fillCart()
    await sleep(PAUSE_MS)
  }

  /** What was there is put back by Cart, as often as Redis loses it. */
  async function fillCart(): Promise<void> {
    while (!signal.aborted) {
      try {
        return await downstreams.cart.fill(purchase.email, purchase.lines)
      } catch {
        await sleep(PAUSE_MS)
      }
    }
  }
}

/** A 4xx is for good, but for an empty cart and a crowd. That nothing was ordered is enough for one who gives up. */
function isFinal({ status, unknown }: Answer, { impatient }: Purchase): boolean {
  if (status >= 500) return impatient && !unknown
  return status >= 400 && status !== 400 && status !== 429
}

async function checkout(url: string, token: string, key: string, timeoutMs: number): Promise<Answer> {
  const askedAt = Date.now()
  try {
    const response = await fetch(`${url}/order/v1/orders/checkout`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'idempotency-key': key },
      body: JSON.stringify(demoAddress),
      signal: AbortSignal.timeout(timeoutMs),
    })
    const body = (await response.json()) as { total_cents?: number }
    const id = response.headers.get('order-id')
    return {
      status: response.status,
      orderId: id === null ? undefined : Number(id),
      unknown: response.headers.get('checkout-outcome') === 'unknown',
      totalCents: body.total_cents,
      askedAt,
    }
  } catch {
    return { status: 0, orderId: undefined, unknown: false, totalCents: undefined, askedAt }
  }
}
