/**
 * The Catalog of today: reads, waits and writes, so that calls which overlap overwrite each other; forgets keys; refuses what it has
 * not got. With a fault it loses requests, drops answers, fails, or acts long after everybody has given up. And its client.
 */
import type { Catalog } from '../../../src/clients/catalog.ts'
import { NoAnswer } from '../../../src/clients/http.ts'
import type { ProductQty, StockVerb } from '../../../src/model.ts'
import { enoughFor } from '../../../src/stock/leases.ts'
import type { Life, World } from './world.ts'

export const CALL_TIMEOUT_MS = 5000

export interface CatalogTerms {
  /** The share of calls, looks included, that meet a fault while faults last. */
  faultRate: number
  /** A late call acts after 3 s at the earliest, and after so many ms at the latest. */
  actLateMs: number
  faultsEndMs: number
  /** Whether it has a release, as a newer Catalog may. */
  release: boolean
}

export interface PlayedCatalog {
  shelf: Map<number, { inStock: number; reserved: number }>
  /** @param looks told in the moment in which a product is looked at */
  clientOf(life: Life, looks: (productId: number) => void): Catalog
  /** Two calls of ours were there at once: Catalog keeps one of them. */
  overwritten: ReadonlySet<number>
  /** Nothing is between reading and writing. */
  isFree(productId: number): boolean
}

/** A call of ours that is at a product. */
interface Visit {
  /** When its process made sure of its lease. */
  checkedAt: number
  sentAt: number
}

export function playCatalog(world: World, { faultRate, actLateMs, faultsEndMs, release }: CatalogTerms): PlayedCatalog {
  const { chance } = world
  const shelf: PlayedCatalog['shelf'] = new Map()
  const visits = new Map<number, Set<Visit>>()
  const overwritten = new Set<number>()
  const faulty = () => world.now() < faultsEndMs && chance.happens(faultRate)

  /** Two at one product are no fault of the leases where one of them comes when its own is over, or the call counts as over. */
  function enter(productId: number, visit: Visit): void {
    const there = visits.get(productId) ?? new Set()
    visits.set(productId, there.add(visit))
    const isLate = ({ checkedAt, sentAt }: Visit) =>
      world.now() - checkedAt > enoughFor(CALL_TIMEOUT_MS) || world.now() - sentAt > CALL_TIMEOUT_MS
    for (const other of there) {
      if (other === visit) continue
      overwritten.add(productId)
      world.count(isLate(visit) || isLate(other) ? 'late overlaps' : 'overlaps')
    }
  }

  /** @param answer is told `true` when it is done, `false` where it is refused */
  function serve(verb: StockVerb, key: string, items: readonly ProductQty[], visit: Visit, answer: (done: boolean) => void): void {
    const read = items.map(({ productId, qty }) => ({ productId, qty, books: { ...shelf.get(productId)! } }))
    if (verb === 'reserve' && read.some(({ qty, books }) => books.inStock - books.reserved < qty)) {
      world.tell(() => `catalog refuses ${key}`)
      return answer(false)
    }
    for (const { productId } of items) enter(productId, visit)
    world.after(chance.between(1, 5), () => {
      for (const { productId, qty, books } of read) {
        const now = shelf.get(productId)!
        if (verb === 'reserve') now.reserved = books.reserved + qty
        if (verb === 'commit') Object.assign(now, { inStock: books.inStock - qty, reserved: Math.max(0, books.reserved - qty) })
        if (verb === 'restock') now.inStock = books.inStock + qty
        if (verb === 'release') now.reserved = Math.max(0, books.reserved - qty)
        visits.get(productId)!.delete(visit)
        world.tell(() => `catalog ${verb} ${qty} of ${productId} for ${key}: ${JSON.stringify(now)}`)
      }
      answer(true)
    })
  }

  return {
    shelf,
    overwritten,
    isFree: (productId) => !visits.get(productId)?.size,
    clientOf: (life, looks) => ({
      mayRelease: () => release,

      async change({ verb, items, idempotencyKey, mayGo }) {
        const unsent = () => new NoAnswer(`catalog ${verb} was not sent`, { sent: false, settlesAt: world.now() })
        const began = world.now()
        if (mayGo && !(await mayGo())) throw unsent()
        const checkedAt = world.now()
        await world.sleep(life, chance.between(0.05, 0.2)) // one that is stopped here sends late
        world.count(verb)
        const sentAt = world.now()
        const fault = faulty() ? chance.pick(['drop', 'late', 'late', 'unsent', 'lose', 'error'] as const) : undefined
        if (fault) world.count(fault)
        world.tell(() => `${life.process} sends ${idempotencyKey}, ${fault ?? 'no fault'}`)

        return new Promise((resolve, reject) => {
          const noAnswer = (why: string) =>
            reject(new NoAnswer(`catalog ${verb}: ${why}`, { sent: true, settlesAt: began + CALL_TIMEOUT_MS }))
          const answer = (settle: () => void) =>
            world.deliver(life, chance.between(1, 3), () => {
              // One that was stopped beyond the time-out finds both when it wakes.
              if (world.now() - sentAt > CALL_TIMEOUT_MS && chance.happens(0.5)) noAnswer('no answer in time')
              else settle()
            })
          world.deliver(life, CALL_TIMEOUT_MS, () => noAnswer('no answer in time'))
          if (fault === 'unsent') return world.deliver(life, 1, () => reject(unsent()))
          if (fault && fault !== 'error' && chance.happens(0.3))
            world.deliver(life, chance.between(1, CALL_TIMEOUT_MS), () => noAnswer('ECONNRESET'))
          if (fault === 'lose') return
          const failed = () => answer(() => reject(new NoAnswer('status 500', { sent: true, settlesAt: world.now() })))
          if (fault === 'error' && chance.happens(0.5)) return failed()
          world.after(fault === 'late' ? chance.between(3000, actLateMs) : chance.between(1, 4), () =>
            serve(verb, idempotencyKey, items, { checkedAt, sentAt }, (done) => {
              if (fault === 'drop') return
              if (fault === 'error') return failed()
              answer(() => resolve(done ? { answer: 'done' } : { answer: 'refused', status: 409, detail: 'Insufficient stock' }))
            }),
          )
        })
      },

      async look(productId) {
        world.count('look')
        if (faulty()) {
          await world.sleep(life, chance.pick([1, CALL_TIMEOUT_MS]))
          throw new NoAnswer('catalog look', { sent: true, settlesAt: world.now() })
        }
        return world.ask(life, () => {
          looks(productId)
          return { ...shelf.get(productId)! }
        })
      },
    }),
  }
}
