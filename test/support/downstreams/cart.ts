/** The Cart, as far as the order service sees it: a Redis hash a customer. */
import { connectPatient, type RedisConnection } from '../../../src/redis/connection.ts'
import { createLogger } from '../../../src/telemetry/logger.ts'

/** A line to put into a cart; price and title are Catalog's where they are left out. */
export interface CartLine {
  product_id: number
  qty: number
  unit_price_cents?: number
  title?: string
}

/** A customer and what is in the cart: lines, or the very fields of the hash. */
export type CartContents = { email: string; lines: readonly CartLine[] } | { email: string; fields: Record<string, string> }

export interface Cart {
  /** The customer's cart is this, whatever it was before. Two lines of one product stay two. */
  fill(email: string, lines: readonly CartLine[]): Promise<void>
  /** Many carts in one go, each of lines or of a raw hash. */
  fillAll(carts: readonly CartContents[]): Promise<void>
  /** The customer's cart is just this hash, be it as malformed as it likes. */
  fillRaw(email: string, fields: Record<string, string>): Promise<void>
  clear(email: string): Promise<void>
  stop(): Promise<void>
}

/** Opens a Cart on this Redis; it connects when it is first used. `describe` knows what a product costs and is called. */
export function openCart(
  redisUrl: string | undefined,
  describe: (productId: number) => { title: string; price_cents: number } | undefined,
): Cart {
  let redis: RedisConnection | undefined

  function connected(): RedisConnection {
    if (!redisUrl) throw new Error('The cart has no Redis; start the downstreams with redisUrl, or with REDIS_URL set')
    redis ??= connectPatient(redisUrl, createLogger('silent'))
    return redis
  }

  async function fillAll(carts: readonly CartContents[]): Promise<void> {
    await Promise.all(
      carts.map(async (contents) => {
        const { email } = contents
        const fields = 'fields' in contents ? contents.fields : fieldsOf(contents.lines)
        const change = connected().multi().del(`cart:${email}`)
        if (Object.keys(fields).length > 0) change.hset(`cart:${email}`, fields)
        await change.exec()
      }),
    )
  }

  /** The field is named after the product; the second line of one product needs a name of its own. */
  function fieldsOf(lines: readonly CartLine[]): Record<string, string> {
    const fields: Record<string, string> = {}
    for (const { product_id, qty, unit_price_cents, title } of lines) {
      let field = String(product_id)
      for (let nth = 2; field in fields; nth++) field = `${product_id}:${nth}`
      const product = describe(product_id)
      fields[field] = JSON.stringify({
        product_id,
        qty,
        unit_price_cents: unit_price_cents ?? product?.price_cents ?? 1_000,
        title: title ?? product?.title ?? `Product ${product_id}`,
      })
    }
    return fields
  }

  return {
    fill: (email, lines) => fillAll([{ email, lines }]),
    fillAll,
    fillRaw: (email, fields) => fillAll([{ email, fields }]),
    async clear(email) {
      await connected().del(`cart:${email}`)
    },
    async stop() {
      redis?.disconnect()
    },
  }
}
