/** What customers do, and a Shipping that answers as their purchases say. */
import { NoAnswer } from '../../../src/clients/http.ts'
import type { Shipping } from '../../../src/clients/shipping.ts'
import type { ProductQty } from '../../../src/model.ts'
import type { Life, World } from './world.ts'

/** A customer's checkout, and all that is to become of it. */
export interface Purchase {
  /** One a product, in the order of product ids. */
  lines: readonly ProductQty[]
  /** Whether its job reaches Redis. */
  isQueued: boolean
  /** What Shipping answers. If it is silent, it is so once, with the draft made or not. */
  shipping: 'accepts' | 'refuses' | 'silent' | 'silent, but done'
  /** When the payment is announced, counted from the order: never, once or twice. */
  paysAfterMs: readonly number[]
}

export function playShipping(world: World, purchaseOf: (orderId: number) => Purchase): (life: Life) => Shipping {
  const shipments = new Set<number>()
  const asked = new Set<number>()
  const { chance } = world
  return (life) => ({
    async create({ order_id: orderId }, _key, mayGo) {
      if (mayGo && !(await mayGo())) throw new NoAnswer('shipping create was not sent', { sent: false, settlesAt: world.now() })
      // Mostly quick; now and then so slow that the hold is put on record by itself.
      await world.sleep(life, chance.happens(0.1) ? chance.between(20, 200) : chance.between(1, 5))
      const { shipping } = purchaseOf(orderId)
      if (shipping === 'refuses') return { answer: 'refused', detail: 'no such country' }
      const isSilent = shipping !== 'accepts' && !asked.has(orderId)
      asked.add(orderId)
      if (!isSilent || shipping === 'silent, but done') shipments.add(orderId)
      await world.sleep(life, isSilent ? 5000 : 2)
      if (isSilent) throw new NoAnswer('shipping create', { sent: true, settlesAt: world.now() })
      return { answer: 'created' }
    },
    has: (orderId) => world.ask(life, () => shipments.has(orderId)),
  })
}
