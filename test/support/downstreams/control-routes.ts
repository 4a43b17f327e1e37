/** What can be done over the control endpoint, and with what. */
import { z } from 'zod'
import { catalogCall, catalogFault } from './catalog.ts'
import type { Downstreams } from './index.ts'
import { negativeReserves } from './catalog-stock.ts'
import { shippingCall, shippingFault } from './shipping.ts'

/** What the control endpoint is a face of. */
export type Controls = Omit<Downstreams, 'controlBase' | 'stop'>

export interface Asked {
  /** The named segments of the path. */
  named: Record<string, string>
  query: Record<string, string>
  /** The body's JSON; undefined where there was none. */
  body: unknown
}

type Route = [name: string, act: (asked: Asked) => unknown]

const integer = z.coerce.number().int()
const count = z.int().min(0)
const inventory = z.strictObject({ in_stock: z.int(), reserved: z.int() })
const catalogManners = z.strictObject({
  instant: z.boolean(),
  real: z.boolean(),
  exact: z.boolean(),
  release: z.boolean(),
  negativeReserve: z.enum(negativeReserves),
})
const shippingManners = catalogManners.pick({ instant: true, real: true })
const line = z.strictObject({ product_id: z.int(), qty: z.int(), unit_price_cents: z.int().optional(), title: z.string().optional() })

const productId = z.object({ id: integer }).transform(({ id }) => id)
const newProduct = z.strictObject({
  stock: z.int(),
  reserved: count.optional(),
  id: z.int().min(1).optional(),
  price: count.optional(),
  title: z.string().optional(),
})
const cart = z.union([
  z.strictObject({ email: z.string().min(1), lines: z.array(line) }),
  z.strictObject({ email: z.string().min(1), fields: z.record(z.string(), z.string()) }),
])
const tokenOptions = z.strictObject({
  sub: z.string().optional(),
  role: z.string().optional(),
  type: z.string().optional(),
  expiresInS: z.int().nullable().optional(),
  secret: z.string().optional(),
  algorithm: z.enum(['HS256', 'HS384', 'HS512', 'none']).optional(),
  claims: z.record(z.string(), z.unknown()).optional(),
})
const journalLimit = z.strictObject({ keep: count })

/** All of them, by method and path; a part that begins with a colon stands for any. */
export function routes({ catalogBase, shippingBase, authBase, catalog, shipping, auth, cart: carts, seed }: Controls): Route[] {
  return [
    ['GET /bases', () => ({ catalog: catalogBase, shipping: shippingBase, auth: authBase })],
    ['POST /seed', ({ body }) => seed(z.strictObject({ seed: z.int() }).parse(body).seed)],

    ['POST /catalog/products', ({ body }) => ({ id: catalog.product(newProduct.parse(body)) })],
    ['POST /catalog/count-from', ({ body }) => catalog.countFrom(z.strictObject({ id: z.int().min(1) }).parse(body).id)],
    ['GET /catalog/products/:id/inventory', ({ named }) => ({ inventory: catalog.inventory(productId.parse(named)) })],
    [
      'PUT /catalog/products/:id/inventory',
      ({ named, body }) => catalog.setInventory(productId.parse(named), inventory.nullable().parse(body)),
    ],
    ['POST /catalog/behave', ({ body }) => catalog.behave(catalogManners.partial().parse(body))],
    [
      'GET /catalog/journal',
      ({ query }) => catalog.journal(z.strictObject({ call: catalogCall, productId: integer }).partial().parse(query)),
    ],
    ['PUT /catalog/journal', ({ body }) => catalog.keepJournal(journalLimit.parse(body).keep)],
    [
      'GET /catalog/in-flight',
      ({ query }) => ({
        most: catalog.inFlightMost(z.strictObject({ productId: integer.optional() }).parse(query).productId),
        callsAtOnceMost: catalog.callsAtOnceMost(),
      }),
    ],
    ...shared('catalog', catalog, (body) => catalog.fault(catalogFault.parse(body))),

    ['GET /shipping/shipments', ({ query }) => shipping.shipments(z.strictObject({ orderId: integer.optional() }).parse(query).orderId)],
    ['POST /shipping/behave', ({ body }) => shipping.behave(shippingManners.partial().parse(body))],
    [
      'GET /shipping/journal',
      ({ query }) => shipping.journal(z.strictObject({ call: shippingCall, orderId: integer, email: z.string() }).partial().parse(query)),
    ],
    ['PUT /shipping/journal', ({ body }) => shipping.keepJournal(journalLimit.parse(body).keep)],
    ['GET /shipping/in-flight', () => ({ most: shipping.inFlightMost(), broke: shipping.broke() })],
    ...shared('shipping', shipping, (body) => shipping.fault(shippingFault.parse(body))),

    ['POST /auth/tokens', ({ body }) => ({ token: auth.token(tokenOptions.parse(body)) })],
    ['POST /auth/down', () => auth.down()],
    ['POST /auth/up', () => auth.up()],

    [
      'POST /carts',
      async ({ body }) => {
        const wanted = z.union([cart, z.array(cart)]).parse(body)
        await carts.fillAll([wanted].flat())
      },
    ],
    ['DELETE /carts/:email', ({ named }) => carts.clear(z.object({ email: z.string() }).parse(named).email)],
  ]
}

/** What Catalog and Shipping have in common. */
interface Faulty {
  removeFault(id: number): boolean
  clearFaults(): void
  forget(): void
  down(): Promise<void>
  up(): Promise<void>
}

function shared(name: string, downstream: Faulty, tell: (body: unknown) => { id: number }): Route[] {
  return [
    [`POST /${name}/faults`, ({ body }) => ({ id: tell(body).id })],
    [`DELETE /${name}/faults`, () => downstream.clearFaults()],
    [
      `DELETE /${name}/faults/:id`,
      ({ named }) => {
        const { id } = z.object({ id: integer }).parse(named)
        if (!downstream.removeFault(id)) throw new RangeError(`There is no fault ${id}`)
      },
    ],
    [`DELETE /${name}/journal`, () => downstream.forget()],
    [`POST /${name}/down`, () => downstream.down()],
    [`POST /${name}/up`, () => downstream.up()],
  ]
}
