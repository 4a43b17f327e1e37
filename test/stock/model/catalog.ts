/**
 * The Catalog of today, at the other end of the service's own client: reads, waits and writes, so that calls which overlap overwrite each
 * other; forgets keys; refuses what it has not got. With a fault it loses requests, drops answers, fails, or acts long after everybody
 * has given up.
 */
import pLimit from 'p-limit'
import { type Catalog, createCatalog } from '../../../src/clients/catalog.ts'
import { type Answer, type Call, NoAnswer } from '../../../src/clients/http.ts'
import type { ProductQty, StockVerb } from '../../../src/model.ts'
import type { CallFaults } from './faults.ts'
import { type Life, meetFate, type World } from './world.ts'

export const CALL_TIMEOUT_MS = 5000

export interface CatalogOptions {
  /** What calls meet, reads included. */
  faults: CallFaults
  /** Whether it has a release, as a newer Catalog may. */
  release: boolean
  /** Whether a reserve takes quantities below 0, as today's does; otherwise it answers 422. */
  negative: boolean
  /** Whether a process may be stopped just before it sends a call, so that the call acts late. */
  sendsLate: boolean
  /** Calls of a process that are under way at a time: the others wait for their place. */
  places: number
  /** Whether a product's row still says that this call is under way. */
  hasLease(callId: number, productId: number): boolean
}

export interface PlayedCatalog {
  inventory: Map<number, { inStock: number; reserved: number }>
  clientOf(life: Life): Catalog
  /** Two calls of ours were there at once: Catalog keeps one of them. */
  overwritten: ReadonlySet<number>
  /** The calls that were sent, also those that never arrived. */
  sent: ReadonlySet<number>
  /** Nothing is between reading and writing. */
  isFree(productId: number): boolean
}

/** A call of ours that is at a product. */
interface Visit {
  /** When its process made sure of its lease: its time-out counts from there. */
  checkedAt: number
}

interface Request {
  verb: StockVerb
  key: string
  items: readonly ProductQty[]
  visit: Visit
}

export function playCatalog(world: World, { faults, release, negative, places, sendsLate, hasLease }: CatalogOptions): PlayedCatalog {
  const { chance } = world
  const inventory: PlayedCatalog['inventory'] = new Map()
  const visits = new Map<number, Set<Visit>>()
  const overwritten = new Set<number>()
  const sent = new Set<number>()
  const isLate = ({ checkedAt }: Visit) => world.now() - checkedAt > CALL_TIMEOUT_MS

  /** Two at one product are no fault of the leases where one of them acts after its time-out. */
  function enter(productId: number, visit: Visit): void {
    const there = visits.get(productId) ?? new Set()
    visits.set(productId, there.add(visit))
    for (const other of there) {
      if (other === visit) continue
      overwritten.add(productId)
      world.tell(() => `catalog: calls overlap on ${productId}`)
      world.count(isLate(visit) || isLate(other) ? 'late overlaps' : 'overlaps')
    }
  }

  function refusalOf({ verb, items }: Request): { status: number; detail: string } | undefined {
    if (verb === 'release' && !release) return { status: 404, detail: 'Not Found' }
    if (verb !== 'reserve') return undefined
    if (!negative && items.some(({ qty }) => qty < 0)) return { status: 422, detail: 'Input should be greater than 0' }
    const isShort = ({ productId, qty }: ProductQty) => free(productId) < qty
    return items.some(isShort) ? { status: 409, detail: 'Insufficient stock' } : undefined
  }

  function free(productId: number): number {
    const { inStock, reserved } = inventory.get(productId)!
    return inStock - reserved
  }

  function serve(request: Request, answer: (status: number, body: unknown) => void): void {
    const { verb, key, items, visit } = request
    const before = items.map(({ productId, qty }) => ({ productId, qty, was: { ...inventory.get(productId)! } }))
    const refusal = refusalOf(request)
    if (refusal) {
      world.tell(() => `catalog refuses ${key}: ${verb} ${JSON.stringify(items)}, ${refusal.status}`)
      return answer(refusal.status, { detail: refusal.detail })
    }
    if (isLate(visit)) world.count('acted late')
    for (const { productId } of items) enter(productId, visit)
    world.after(chance.between(1, 5), () => {
      for (const { productId, qty, was } of before) {
        const now = inventory.get(productId)!
        if (verb === 'reserve') now.reserved = was.reserved + qty
        if (verb === 'commit') Object.assign(now, { inStock: was.inStock - qty, reserved: Math.max(0, was.reserved - qty) })
        if (verb === 'restock') now.inStock = was.inStock + qty
        if (verb === 'release') now.reserved = Math.max(0, was.reserved - qty)
        visits.get(productId)!.delete(visit)
        world.tell(() => `catalog ${verb} ${qty} of ${productId} for ${key}: ${JSON.stringify(now)}`)
      }
      answer(200, {})
    })
  }

  async function change(life: Life, { path, body, idempotencyKey: key = '', mayGo }: Call): Promise<Answer> {
    const verb = path.split('/').at(-1) as StockVerb
    const items = (body as { items: { product_id: number; qty: number }[] }).items.map((item) => ({
      productId: item.product_id,
      qty: item.qty,
    }))
    const unsent = () => new NoAnswer(`catalog ${verb} was not sent`, { sent: false, settlesAt: world.now() })
    if (mayGo && !(await mayGo())) throw unsent()
    const checkedAt = world.now()
    const settlesAt = checkedAt + CALL_TIMEOUT_MS
    if (sendsLate) await world.sleep(life, chance.between(0.05, 0.2))
    world.count(verb)
    const callId = Number(key.replace('stock-call:', ''))
    sent.add(callId)
    if (!items.every(({ productId }) => hasLease(callId, productId))) world.count('sent without a lease')
    const fault = faults.next(items.map(({ productId }) => productId))
    const { kind, actsAfterMs = 0, resetsAfterMs } = fault ?? {}
    if (kind) world.count(kind)
    world.tell(() => `${life.process} sends ${key}: ${verb} ${JSON.stringify(items)}, ${kind ?? 'no fault'}`)

    meetFate(life, 'call to Catalog')

    return new Promise((resolve, reject) => {
      const noAnswer = (why: string) => reject(new NoAnswer(`catalog ${verb}: ${why}`, { sent: true, settlesAt }))
      const answer = (settle: () => void) =>
        world.deliver(life, chance.between(1, 3), () => {
          // A process that was stopped beyond the time-out finds both when it wakes.
          if (world.now() > settlesAt && chance.happens(0.5)) noAnswer('no answer in time')
          else settle()
        })
      world.deliver(life, settlesAt - world.now(), () => noAnswer('no answer in time'))
      if (kind === 'unsent') return world.deliver(life, 1, () => reject(unsent()))
      if (resetsAfterMs !== undefined) world.deliver(life, resetsAfterMs, () => noAnswer('ECONNRESET'))
      if (kind === 'lose') return
      const failed = () => answer(() => reject(new NoAnswer('status 500', { sent: true, settlesAt: world.now() })))
      if (kind === 'error' && !fault?.isDone) return failed()
      world.after(kind === 'late' ? actsAfterMs : chance.between(1, 4), () =>
        serve({ verb, key, items, visit: { checkedAt } }, (status, said) => {
          if (kind === 'drop') return
          if (kind === 'error') return failed()
          answer(() => resolve({ status, body: said, settlesAt }))
        }),
      )
    })
  }

  async function read(life: Life, path: string): Promise<Answer> {
    world.count('read')
    const productId = Number(path.split('/').at(-1))
    const fault = faults.next([productId])
    if (fault) {
      world.count('unread')
      await world.sleep(life, fault.isDone ? 1 : CALL_TIMEOUT_MS)
      throw new NoAnswer('catalog read', { sent: true, settlesAt: world.now() })
    }
    const { inStock, reserved } = await world.ask(life, () => ({ ...inventory.get(productId)! }))
    return { status: 200, body: { inventory: { in_stock: inStock, reserved } }, settlesAt: world.now() }
  }

  return {
    inventory,
    overwritten,
    sent,
    isFree: (productId) => !visits.get(productId)?.size,
    clientOf(life) {
      const place = pLimit(places)
      const call = (one: Call) => place(() => (one.method === 'GET' ? read(life, one.path) : change(life, one)))
      return createCatalog({ call, close: async () => {} }, world.now)
    },
  }
}
