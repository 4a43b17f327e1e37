/** A shop whose servers were away a moment ago. */
import type { Answer, Shop } from './shop.ts'
import { until } from './until.ts'

/** Most often it takes ten seconds. A worker has to come back by itself: its watchdog would restart it after 30 s. */
const BACK_WITHIN_MS = 25_000

/** Customers come one after the other until one is served. @returns all answers */
export async function untilServed(shop: Shop, productId: number): Promise<Answer[]> {
  const answers: Answer[] = []
  await until(
    async () => {
      const customer = await shop
        .customer()
        .wants({ product_id: productId, qty: 1 })
        .catch(() => undefined) // Cart's own trouble with that server
      const answer = await customer?.checkout()
      if (answer) answers.push(answer)
      return answer?.status
    },
    (status) => status === 200,
    BACK_WITHIN_MS,
  )
  return answers
}

/** Readiness lags: on a busy machine a component may need more than the second that it has to answer. */
export const untilReady = (shop: Shop): Promise<unknown> =>
  until(
    () => shop.get('/order/ready'),
    ({ status }) => status === 200,
  )
