/**
 * The order service's downstreams as real HTTP servers on 127.0.0.1: they keep to the wire contract in its faults too, and do wrong what they are
 * told to do wrong.
 */
import { type Auth, openAuth } from './auth.ts'
import { type Cart, openCart } from './cart.ts'
import { type Catalog, openCatalog } from './catalog.ts'
import { Chance } from './chance.ts'
import { openControl } from './control.ts'
import type { NegativeReserve } from './catalog-stock.ts'
import { openShipping, type Shipping } from './shipping.ts'

export type { Auth } from './auth.ts'
export type { Cart, CartLine } from './cart.ts'
export type { Catalog, CatalogFault } from './catalog.ts'
export type { Inventory } from './catalog-stock.ts'
export type { Shipping, ShippingFault } from './shipping.ts'

export interface DownstreamsOptions {
  internalKey?: string
  jwtSecret?: string
  /** Where carts are filled; `REDIS_URL` where it is left out. */
  redisUrl?: string
  /** Nobody waits, and so nothing overlaps: for benchmarks. Journals and shipments are kept short. */
  instant?: boolean
  /** Catalog and Shipping take as long as the real ones and serve no more calls a second: for benchmarks. With `instant` it has no effect. */
  real?: boolean
  /** Catalog locks its rows and honours `Idempotency-Key`. */
  exact?: boolean
  /** Catalog has a `POST …/release`. */
  release?: boolean
  /** What Catalog does with a negative quantity; `takes` by default, as today's does. */
  negativeReserve?: NegativeReserve
  /** The id of the first product. */
  firstProductId?: number
  /** How long calls take and how Shipping breaks follows from this number. */
  seed?: number
  /** How many calls each journal keeps; 0 for none. */
  journal?: number
  /** Fixed ports instead of free ones. */
  ports?: { catalog?: number; shipping?: number; auth?: number; control?: number }
}

export interface Downstreams {
  catalogBase: string
  shippingBase: string
  authBase: string
  /** The same functions over HTTP; `GET /` lists them. */
  controlBase: string
  catalog: Catalog
  shipping: Shipping
  auth: Auth
  cart: Cart
  /** Begins another sequence of chance. */
  seed(seed: number): void
  /** Stops all of them, calls under way too, and leaves no handle. */
  stop(): Promise<void>
}

/** Starts all downstreams; with defaults as bad as the real ones. */
export async function startDownstreams(options: DownstreamsOptions = {}): Promise<Downstreams> {
  const { internalKey = 'devkey', jwtSecret = 'devsecret', redisUrl = process.env.REDIS_URL } = options
  const { instant = false, real = false, exact = false, release = false, negativeReserve = 'takes', ports = {} } = options
  const journal = options.journal ?? (instant ? 1_000 : 100_000)
  const chance = new Chance(options.seed)

  const catalog = await openCatalog({ internalKey, instant, real, exact, release, negativeReserve, chance, journal, port: ports.catalog })
  const shipping = await openShipping({ instant, real, chance, journal, orders: instant ? 20_000 : 1_000_000, port: ports.shipping })
  const auth = await openAuth({ jwtSecret, port: ports.auth })
  const cart = openCart(redisUrl, catalog.describe)
  if (options.firstProductId !== undefined) catalog.countFrom(options.firstProductId)

  const downstreams = {
    catalogBase: catalog.base,
    shippingBase: shipping.base,
    authBase: auth.base,
    catalog,
    shipping,
    auth,
    cart,
    seed: (seed: number) => chance.seed(seed),
  }
  const control = await openControl(downstreams, ports.control)
  return {
    ...downstreams,
    controlBase: control.base,
    async stop() {
      await Promise.all([catalog.stop(), shipping.stop(), auth.stop(), cart.stop(), control.down()])
    },
  }
}
