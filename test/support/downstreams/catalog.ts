/** The Catalog that the order service calls: stock over HTTP, as the wire contract has it, races and all. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { z } from 'zod'
import { Capacity, catalogThroughput } from './capacity.ts'
import { carryOut } from './carry-out.ts'
import type { Chance } from './chance.ts'
import { openListener } from './listener.ts'
import { type Answer, Exchange, json, readJson, refusal, unprocessable } from './exchange.ts'
import { type Fault, Faults, faultOptions } from './faults.ts'
import { InFlight } from './in-flight.ts'
import { type Entry, Journal } from './journal.ts'
import { type Inventory, type Item, type Manners, type Product, CatalogStock, type Verb, verbs } from './catalog-stock.ts'
import { Waits } from './waits.ts'

export const catalogCall = z.enum([...verbs, 'read'])
export type CatalogCall = z.infer<typeof catalogCall>

/** Which calls a fault strikes: those of this kind and with a line of this product; any, where they are left out. */
export const catalogFault = faultOptions.extend({ call: catalogCall.optional(), productId: z.int().optional() })
export type CatalogFault = z.infer<typeof catalogFault>

/** A call as Catalog saw it. A read has one item, of quantity 0; one that was not understood has none. */
export interface CatalogEntry extends Entry {
  call: CatalogCall
  items: readonly Item[]
}

export interface CatalogManners extends Manners {
  /** Whether there is a `POST …/release`. Today's Catalog has none. */
  release: boolean
}

export interface CatalogOptions extends CatalogManners {
  internalKey: string
  chance: Chance
  journal: number
  port?: number
}

/** A product to put on the stockTable; `in_stock` is `stock`, and the id the next of the counter. */
export interface NewProduct {
  stock: number
  reserved?: number
  id?: number
  price?: number
  title?: string
}

export interface Catalog {
  base: string
  /** Puts a product on the stockTable, or in the place of the one that has this id. @returns its id */
  product(product: NewProduct): number
  /** The next product gets this id. */
  countFrom(id: number): void
  /** What a product costs and is called, for carts. */
  describe(id: number): { title: string; price_cents: number } | undefined
  /** What Catalog says of a product; null where it has no inventory. */
  inventory(id: number): Inventory | null
  /** Changes the inventory behind everybody's back. */
  setInventory(id: number, inventory: Inventory | null): void
  /** Whether no call would overwrite such a change: none has read the product and has yet to write it. */
  isIdle(id: number): boolean
  /** Tells it what to do wrong. */
  fault(fault: CatalogFault): Fault
  removeFault(id: number): boolean
  clearFaults(): void
  /** The calls so far, oldest first. */
  journal(only?: { call?: CatalogCall; productId?: number }): CatalogEntry[]
  /** Keeps so many calls in the journal from now on; 0 switches it off. */
  keepJournal(limit: number): void
  /** The most stock calls (reads do not count) that ever overlapped on this product; on any one product, where none is named. */
  inFlightMost(productId?: number): number
  /** The most calls, of whatever kind and product, that there ever were at the same time. */
  callsAtOnceMost(): number
  /** Forgets the journal and what was ever the most. Inventories and faults stay. */
  forget(): void
  /** Changes its manners from the next call on. */
  behave(manners: Partial<CatalogManners>): void
  /** Refuses connections and cuts the open ones. */
  down(): Promise<void>
  /** Is back, at the same port. */
  up(): Promise<void>
  stop(): Promise<void>
}

const MAX_INTEGER = 2_147_483_647
const productPath = '/catalog/v1/products/'
const stockPaths = new Map<string, Verb>(verbs.map((verb) => [`/catalog/v1/inventory/${verb}`, verb]))

/** Opens a Catalog with nothing on its stockTable. */
export async function openCatalog({ internalKey, chance, journal: limit, port, ...initial }: CatalogOptions): Promise<Catalog> {
  const manners: CatalogManners = { ...initial }
  const waits = new Waits()
  const capacity = new Capacity(catalogThroughput, chance, waits)
  const stockTable = new CatalogStock(manners, chance, waits, capacity)
  const faults = new Faults<CatalogFault>()
  const journal = new Journal<CatalogEntry>(limit)
  const inFlight = new InFlight<number>()
  let nextId = 1

  const listener = await openListener((req, res) => {
    const verb = req.method === 'POST' ? stockPaths.get(req.url ?? '') : undefined
    if (verb) return readJson(req, (body) => changeStock(verb, body, req, res))
    if (req.method === 'GET' && req.url?.startsWith(productPath)) return readProduct(req.url.slice(productPath.length), req, res)
    new Exchange(res, () => undefined).answer(refusal(404, 'Not Found'))
  }, port)

  function changeStock(verb: Verb, body: unknown, req: IncomingMessage, res: ServerResponse): void {
    const items = itemsOf(body)
    const entry = entered(verb, items ?? [], req)
    const products = items ? productsOf(items) : []
    const exchange = admitted(entry, products, res)
    if (verb === 'release' && !manners.release) return exchange.answer(refusal(404, 'Not Found'))
    if (req.headers['x-internal-key'] !== internalKey) return exchange.answer(refusal(401, 'Invalid internal key'))
    if (!items)
      return exchange.answer(unprocessable(['items'], 'Input should be a list of items with integer product_id and qty other than 0'))
    const negative = items.findIndex(({ qty }) => qty < 0)
    if (negative >= 0 && (manners.negativeReserve === 'refuses' || verb === 'release'))
      return exchange.answer(unprocessable(['items', negative, 'qty'], 'Input should be greater than or equal to 1'))
    const onWrite = () => {
      entry.applied = true
    }
    strike(exchange, entry, products, () => stockTable.change(verb, items, entry.idempotencyKey, onWrite))
  }

  function readProduct(text: string, req: IncomingMessage, res: ServerResponse): void {
    const id = integerOf(text)
    const entry = entered('read', id === undefined ? [] : [{ product_id: id, qty: 0 }], req)
    const exchange = admitted(entry, [], res)
    if (id === undefined) return exchange.answer(unprocessable(['product_id'], 'Input should be a valid integer'))
    const read = (): Answer => {
      const product = stockTable.products.get(id)
      return product ? json(200, product) : refusal(404, 'Product not found')
    }
    strike(exchange, entry, [id], () => {
      if (manners.instant) return read()
      return manners.real ? capacity.serve(read, (answer) => answer) : waits.pause(chance.between(1, 2)).then(read)
    })
  }

  function entered(call: CatalogCall, items: readonly Item[], req: IncomingMessage): CatalogEntry {
    const entry: CatalogEntry = { call, items, at: Date.now(), ms: 0, answer: 'none', applied: false }
    const key = req.headers['idempotency-key']
    if (typeof key === 'string') entry.idempotencyKey = key
    journal.add(entry)
    return entry
  }

  /** Counts the call until it is over for its caller, and writes down how it ended. */
  function admitted(entry: CatalogEntry, products: readonly number[], res: ServerResponse): Exchange {
    const since = performance.now()
    inFlight.enter(products)
    return new Exchange(res, (answer) => {
      inFlight.leave(products)
      entry.answer = answer
      entry.ms = performance.now() - since
    })
  }

  function strike(exchange: Exchange, entry: CatalogEntry, products: readonly number[], act: () => Answer | Promise<Answer>): void {
    const fault = faults.strike(
      ({ call, productId }) => (call === undefined || call === entry.call) && (productId === undefined || products.includes(productId)),
    )
    if (fault) entry.fault = fault.fault
    carryOut(exchange, act, waits, fault)
  }

  function known(id: number): Product {
    const product = stockTable.products.get(id)
    if (!product) throw new RangeError(`Catalog has no product ${id}; create it first`)
    return product
  }

  return {
    base: listener.base,
    product({ stock, reserved = 0, id = nextId, price = 1_000, title = `Product ${id}` }) {
      stockTable.products.set(id, { id, title, price_cents: price, currency: 'USD', inventory: { in_stock: stock, reserved } })
      nextId = Math.max(nextId, id + 1)
      return id
    },
    countFrom(id) {
      nextId = id
    },
    describe: (id) => stockTable.products.get(id),
    inventory(id) {
      const { inventory } = known(id)
      return inventory && { ...inventory }
    },
    setInventory(id, inventory) {
      known(id).inventory = inventory && { ...inventory }
    },
    isIdle: (id) => stockTable.isIdle(id),
    fault: (fault) => faults.add(fault),
    removeFault: (id) => faults.remove(id),
    clearFaults: () => faults.clear(),
    journal: ({ call, productId } = {}) =>
      journal.read(
        (entry) =>
          (call === undefined || entry.call === call) &&
          (productId === undefined || entry.items.some((item) => item.product_id === productId)),
      ),
    keepJournal: (most) => journal.keep(most),
    inFlightMost: (productId) => (productId === undefined ? inFlight.mostOfAnyKey() : inFlight.mostOf(productId)),
    callsAtOnceMost: () => inFlight.most,
    forget() {
      journal.forget()
      inFlight.forget()
    },
    behave: (changed) => void Object.assign(manners, changed),
    down: listener.down,
    up: listener.up,
    async stop() {
      waits.callOff()
      await listener.down()
      // Once more: what was under way may have put something off meanwhile.
      waits.callOff()
    },
  }
}

function productsOf(items: readonly Item[]): number[] {
  return items.length === 1 && items[0] ? [items[0].product_id] : [...new Set(items.map((item) => item.product_id))]
}

/** The lines of a body, or nothing where one of them is not as the contract has it. */
function itemsOf(body: unknown): Item[] | undefined {
  const items = (body as { items?: unknown } | null | undefined)?.items
  return Array.isArray(items) && items.every(isItem) ? items : undefined
}

function isItem(value: unknown): value is Item {
  const { product_id, qty } = (value ?? {}) as Record<string, unknown>
  return isInteger(product_id) && isInteger(qty) && qty !== 0
}

function isInteger(value: unknown): value is number {
  return Number.isInteger(value) && Math.abs(value as number) <= MAX_INTEGER
}

function integerOf(text: string): number | undefined {
  const value = /^-?\d+$/.test(text) ? Number(text) : undefined
  return isInteger(value) ? value : undefined
}
