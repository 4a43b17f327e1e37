/** Catalog's inventory: what is in stock and what is held, and the ways in which calls change them. */
import type { Capacity } from './capacity.ts'
import type { Chance } from './chance.ts'
import { type Answer, json, refusal } from './exchange.ts'
import { Latest } from './latest.ts'
import type { Waits } from './waits.ts'

/** What changes a product's inventory. */
export const verbs = ['reserve', 'commit', 'restock', 'release'] as const
export type Verb = (typeof verbs)[number]

/**
 * What Catalog does with a negative quantity:
 * - `takes`: as today's Catalog, which ignores the sign: a `reserve` of -2 lowers `reserved` by 2, below 0 too. The check for stock
 *   stays what it is, so a product oversold by more than 2 answers 409. A `restock` adds `max(0, qty)`, which is nothing
 * - `refuses`: answers 422, as a Catalog that checks would
 * - `ignores`: answers 200, and changes nothing by that line
 */
export const negativeReserves = ['takes', 'refuses', 'ignores'] as const
export type NegativeReserve = (typeof negativeReserves)[number]

/** A product's inventory. */
export interface Inventory {
  in_stock: number
  /** Below 0 where negative reserves took away more than was held. */
  reserved: number
}

/** One line of a call. */
export interface Item {
  product_id: number
  qty: number
}

export interface Product {
  id: number
  title: string
  price_cents: number
  currency: string
  inventory: Inventory | null
}

/** How calls change the inventory. */
export interface Manners {
  /** Nothing is waited for, so nothing can come in between. */
  instant: boolean
  /** Calls take as long as at the real one, and more of them at a time longer ({@link Capacity}). Otherwise 1 to 4 ms, however many. */
  real: boolean
  /** Calls on one product wait for each other, and a repeated `Idempotency-Key` is answered as the first time. Otherwise neither. */
  exact: boolean
  /** Counts for the negative quantities of all verbs, though only `reserve` has a use for them. */
  negativeReserve: NegativeReserve
}

const done: Record<Verb, Answer> = {
  reserve: json(200, { status: 'reserved' }),
  commit: json(200, { status: 'committed' }),
  restock: json(200, { status: 'restocked' }),
  release: json(200, { status: 'released' }),
}

const effects: Record<Verb, (inventory: Inventory, qty: number) => Inventory> = {
  reserve: ({ in_stock, reserved }, qty) => ({ in_stock, reserved: reserved + qty }),
  commit: ({ in_stock, reserved }, qty) => ({ in_stock: in_stock - qty, reserved: Math.max(0, reserved - qty) }),
  restock: ({ in_stock, reserved }, qty) => ({ in_stock: in_stock + qty, reserved }),
  release: ({ in_stock, reserved }, qty) => ({ in_stock, reserved: Math.max(0, reserved - qty) }),
}

/** So many answers an exact Catalog remembers by their keys, the latest. */
const rememberedKeys = 100_000

/** The products and their inventory. */
export class CatalogStock {
  readonly products = new Map<number, Product>()
  readonly #manners: Manners
  readonly #chance: Chance
  readonly #waits: Waits
  readonly #capacity: Capacity
  /** For each product the end of the last call that took its lock; Catalog's row lock, where it is exact. */
  readonly #locks = new Map<number, Promise<unknown>>()
  /** Calls that have read a product's inventory, and have yet to write them. */
  readonly #underWay = new Map<number, number>()
  readonly #answers = new Latest<string, Answer>(rememberedKeys)

  constructor(manners: Manners, chance: Chance, waits: Waits, capacity: Capacity) {
    this.#manners = manners
    this.#chance = chance
    this.#waits = waits
    this.#capacity = capacity
  }

  /** Changes the inventory by these lines, all or none. `onWrite` tells that they were changed. */
  change(verb: Verb, items: readonly Item[], key: string | undefined, onWrite: () => void): Answer | Promise<Answer> {
    const { instant, exact } = this.#manners
    const atOnce = () => this.#write(verb, this.#changed(verb, items), onWrite)
    const once = () => (exact && key !== undefined ? this.#once(`${verb} ${key}`, atOnce) : atOnce())
    if (instant) return once()
    if (exact) return this.#underLock(items, () => this.#during(() => undefined, once))
    // Catalog of today: what it read before it waited is what it writes after, over whatever others wrote in between.
    return this.#during(
      () => {
        this.#count(items, 1)
        return this.#changed(verb, items)
      },
      (read) => {
        this.#count(items, -1)
        return this.#write(verb, read, onWrite)
      },
    )
  }

  /** Whether no call is between its read and its write of this product: what is changed now is not overwritten. */
  isIdle(productId: number): boolean {
    return !this.#underWay.get(productId)
  }

  #count(items: readonly Item[], more: 1 | -1): void {
    for (const { product_id: id } of items) this.#underWay.set(id, (this.#underWay.get(id) ?? 0) + more)
  }

  /** Takes the time of a call: `begin` runs when it begins, `end` with its result when it is over. */
  #during<Begun>(begin: () => Begun, end: (begun: Begun) => Answer): Promise<Answer> {
    if (this.#manners.real) return this.#capacity.serve(begin, end)
    const begun = begin()
    return this.#waits.pause(this.#chance.between(1, 4)).then(() => end(begun))
  }

  /** The inventory as they would be, or the refusal of the first line that cannot be had. */
  #changed(verb: Verb, items: readonly Item[]): Map<Product, Inventory> | Answer {
    const changed = new Map<Product, Inventory>()
    for (const { product_id, qty } of items) {
      const product = this.products.get(product_id)
      const inventory = product && (changed.get(product) ?? product.inventory)
      if (!product || !inventory) return refusal(404, `Inventory missing for product_id ${product_id}`)
      if (this.#leavesOut(verb, qty)) continue
      if (verb === 'reserve' && inventory.in_stock - inventory.reserved < qty)
        return refusal(409, `Insufficient stock for product_id ${product_id}`)
      changed.set(product, effects[verb](inventory, qty))
    }
    return changed
  }

  /** Catalog restocks `max(0, qty)`. */
  #leavesOut(verb: Verb, qty: number): boolean {
    return qty < 0 && (verb === 'restock' || this.#manners.negativeReserve === 'ignores')
  }

  #write(verb: Verb, changed: Map<Product, Inventory> | Answer, onWrite: () => void): Answer {
    if (!(changed instanceof Map)) return changed
    for (const [product, inventory] of changed) product.inventory = inventory
    if (changed.size > 0) onWrite()
    return done[verb]
  }

  /** The locks of all products are asked for in one go, so that two calls cannot wait for each other. */
  #underLock(items: readonly Item[], act: () => Promise<Answer>): Promise<Answer> {
    const ids = [...new Set(items.map((item) => item.product_id))]
    const answer = Promise.all(ids.map((id) => this.#locks.get(id))).then(act)
    for (const id of ids) this.#locks.set(id, answer)
    return answer
  }

  #once(key: string, act: () => Answer): Answer {
    const known = this.#answers.get(key)
    if (known) return known
    const answer = act()
    this.#answers.set(key, answer)
    return answer
  }
}
