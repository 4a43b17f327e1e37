/** Reads the carts that the Cart service stores in Redis (wire contract, "Cart"). */
import { Cluster } from 'ioredis'
import { z } from 'zod'
import { batcher } from '../batcher.ts'
import { CURRENCY, type Line, MAX_INTEGER, productsOf, storable, totalOf } from '../model.ts'
import type { RedisConnection } from '../redis/connection.ts'

/** The largest cart, in UTF-16 units of its values in Redis. Intents are written in batches, and titles have no limit of their own. */
const MAX_LENGTH = 2_097_152
/** `title_snapshot varchar(255)`, which counts code points. */
const MAX_TITLE = 255

/** A cart. `lines` are sorted by product id, quantity, price and title, because Redis returns them in any order. */
export type Cart =
  | { cart: 'lines'; lines: Line[]; totalCents: number }
  | { cart: 'empty' }
  /** `detail` is for the customer. */
  | { cart: 'malformed'; detail: string }

export interface Carts {
  /** @throws the error of ioredis if Redis does not answer */
  read(userEmail: string): Promise<Cart>
}

const cartLine = z.object({
  product_id: z.int().min(1).max(MAX_INTEGER),
  qty: z.int().min(1).max(MAX_INTEGER),
  unit_price_cents: z.int().min(0),
  title: z.string().refine(storable),
  // Cart sends none today; prices are in our currency (wire contract).
  currency: z
    .string()
    .refine((code) => code.toUpperCase() === CURRENCY)
    .nullish(),
})

/**
 * @param redis a connection that fails fast, because a customer waits
 * @param maxLines limits the product rows that one checkout locks
 */
export function createCarts(redis: RedisConnection, maxLines: number): Carts {
  const hvals = batcher(
    async (keys: string[]) => {
      // One write for all keys, since each write takes 60 to 90 us. ioredis' pipeline would cost 70 us, because it copies every script that
      // BullMQ and we have defined.
      const stream = redis instanceof Cluster ? undefined : redis.stream
      stream?.cork()
      process.nextTick(() => stream?.uncork())
      return Promise.all(keys.map((key) => redis.hvals(key).catch((error: Error) => error)))
    },
    { paceMs: 0 },
  )
  return {
    async read(userEmail) {
      let values: string[]
      try {
        values = await hvals(`cart:${userEmail}`)
      } catch (error) {
        if (error instanceof Error && error.message.startsWith('WRONGTYPE')) return malformed('the cart is not a Redis hash')
        throw error
      }
      return cartOf(values, maxLines)
    },
  }
}

const malformed = (why: string): Cart => ({ cart: 'malformed', detail: `Cart is malformed: ${why}` })

/** @param values of the hash. The product id is read from the value, not from the field's name */
function cartOf(values: readonly string[], maxLines: number): Cart {
  if (values.length === 0) return { cart: 'empty' }
  if (values.length > maxLines) return { cart: 'malformed', detail: `Cart has more than ${maxLines} lines` }
  if (values.reduce((sum, value) => sum + value.length, 0) > MAX_LENGTH) return { cart: 'malformed', detail: 'Cart is too large' }

  const lines: Line[] = []
  for (const value of values) {
    const line = lineOf(value)
    if (typeof line === 'string') return malformed(line)
    lines.push(line)
  }
  lines.sort(byContent)

  const totalCents = totalOf(lines)
  if (totalCents === undefined) return malformed('its total is too large')
  const tooMany = productsOf(lines).find(({ qty }) => qty > MAX_INTEGER)
  if (tooMany) return malformed(`more than ${MAX_INTEGER} of product ${tooMany.productId}`)
  return { cart: 'lines', lines, totalCents }
}

/** @returns the line, or what is wrong with it */
function lineOf(value: string): Line | string {
  let parsed: unknown
  try {
    parsed = JSON.parse(value)
  } catch {
    return 'a line is not JSON'
  }
  const line = cartLine.safeParse(parsed)
  if (!line.success) {
    const field = line.error.issues[0]?.path.join('.') || 'a line'
    return field === 'currency' ? `a line is not in ${CURRENCY}` : `${field} is invalid`
  }
  const { title, currency: _, ...rest } = line.data
  return { ...rest, title_snapshot: cut(title) }
}

/** Redis does not order the values of a hash, and a double click is recognised by its cart. */
function byContent(a: Line, b: Line): number {
  const byNumbers = a.product_id - b.product_id || a.qty - b.qty || a.unit_price_cents - b.unit_price_cents
  return byNumbers || (a.title_snapshot < b.title_snapshot ? -1 : 1)
}

const cut = (title: string): string => (title.length <= MAX_TITLE ? title : [...title].slice(0, MAX_TITLE).join(''))
