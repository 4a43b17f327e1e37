/** Cart: what a customer wants to buy, as Cart left it in Redis (wire contract, "Cart"). Read only. */
import { Cluster } from 'ioredis'
import { z } from 'zod'
import { batcher } from '../batcher.ts'
import { CURRENCY, type Line, MAX_INTEGER, productsOf, storable, totalOf } from '../model.ts'
import type { RedisConnection } from '../redis/connection.ts'

/** Of the cart as it lies in Redis, in UTF-16 units: intents are written many at a time, and titles may be of any length. */
const MAX_LENGTH = 2_097_152
/** `title_snapshot varchar(255)`, which counts code points. */
const MAX_TITLE = 255

/** What lies in Redis. `lines` are in one order, whichever Redis tells them in: by product id, then quantity, price and title. */
export type Cart =
  | { cart: 'lines'; lines: Line[]; totalCents: number }
  | { cart: 'empty' }
  /** `detail` is for the customer. */
  | { cart: 'malformed'; detail: string }

export interface Carts {
  /** @throws what ioredis throws where Redis cannot be asked */
  read(userEmail: string): Promise<Cart>
}

const cartLine = z.object({
  product_id: z.int().min(1).max(MAX_INTEGER),
  qty: z.int().min(1).max(MAX_INTEGER),
  unit_price_cents: z.int().min(0),
  title: z.string().refine(storable),
  // Cart names none today: prices are in ours (wire contract).
  currency: z
    .string()
    .refine((code) => code.toUpperCase() === CURRENCY)
    .nullish(),
})

/**
 * @param redis a connection that fails fast: somebody waits for the answer
 * @param maxLines a checkout holds the rows of all its products at once
 */
export function createCarts(redis: RedisConnection, maxLines: number): Carts {
  const hvals = batcher(
    async (keys: string[]) => {
      // In one write, of 60 to 90 us each. ioredis' own pipeline costs 70: it is given every script that BullMQ and we have defined here.
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
        if (error instanceof Error && error.message.startsWith('WRONGTYPE')) return malformed('it is no hash')
        throw error
      }
      return cartOf(values, maxLines)
    },
  }
}

const malformed = (why: string): Cart => ({ cart: 'malformed', detail: `Cart is malformed: ${why}` })

/** @param values of the hash: the product id inside a value counts, the field's name does not */
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
  lines.sort(inOrder)

  const totalCents = totalOf(lines)
  if (totalCents === undefined) return malformed('its total cannot be counted exactly')
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
    return 'a line is no JSON'
  }
  const line = cartLine.safeParse(parsed)
  if (!line.success) {
    const field = line.error.issues[0]?.path.join('.') || 'a line'
    return field === 'currency' ? `a line is not in ${CURRENCY}` : `${field} is not as it should be`
  }
  const { title, currency: _, ...rest } = line.data
  return { ...rest, title_snapshot: cut(title) }
}

/** Redis promises no order of a hash's values, and a double click is recognised by its cart. */
function inOrder(a: Line, b: Line): number {
  const byNumbers = a.product_id - b.product_id || a.qty - b.qty || a.unit_price_cents - b.unit_price_cents
  return byNumbers || (a.title_snapshot < b.title_snapshot ? -1 : 1)
}

const cut = (title: string): string => (title.length <= MAX_TITLE ? title : [...title].slice(0, MAX_TITLE).join(''))
