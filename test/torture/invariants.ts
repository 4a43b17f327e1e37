/** What has to hold in the end, whatever struck. Pure: the evidence in, a line for each violation out. */
import type { Answer } from './customers.ts'
import type { Evidence } from './evidence.ts'

/** Of units sold, so many may be wrong in Catalog's stock, where they are listed as ambiguous. */
const MOST_OFF = 1 / 10_000
/** The service promises to end within 15 s; what its supervisor and a busy machine add is not its own. */
const MOST_ENDING_MS = 17_000

type Invariant = (evidence: Evidence) => string[]

const customers: Invariant = ({ told, orders }) => {
  const found: string[] = []
  const byId = new Map(orders.map((order) => [order.id, order]))
  const owners = new Map<number, string>()
  for (const { purchase, last } of told) {
    const who = `${purchase.email} ${purchase.key}`
    if (!last) found.push(`${who}: never heard anything for certain`)
    if (last?.status !== 200) continue
    const order = byId.get(last.orderId!)
    if (!order) found.push(`${who}: was told of order ${last.orderId}, which does not stand`)
    else if (order.email !== purchase.email) found.push(`${who}: was told of order ${order.id}, which is somebody else's`)
    else if (!sameLines(order.items, purchase.lines)) found.push(`${who}: order ${order.id} is of other things`)
    if (owners.has(last.orderId!)) found.push(`${who}: has order ${last.orderId} together with ${owners.get(last.orderId!)}`)
    owners.set(last.orderId!, who)
  }
  for (const { id, email } of orders) if (!owners.has(id)) found.push(`order ${id} of ${email}: nobody was last told of it`)
  return found
}

function sameLines(items: readonly { productId: number; qty: number }[], lines: readonly { product_id: number; qty: number }[]): boolean {
  const say = (all: [number, number][]) => JSON.stringify(all.sort(([a], [b]) => a - b))
  return say(items.map(({ productId, qty }) => [productId, qty])) === say(lines.map(({ product_id, qty }) => [product_id, qty]))
}

/** Every answer, not only the last one. */
const answers: Invariant = ({ told, orders }) => {
  const byId = new Map(orders.map((order) => [order.id, order]))
  return told.flatMap(({ purchase, answers: all, last }) => {
    const own = last?.status === 200 ? byId.get(last.orderId!) : undefined
    return all.flatMap((answer) => {
      const flaw = flawOf(answer)
      return flaw ? [`${purchase.email} ${purchase.key}: ${flaw}`] : []
    })

    function flawOf({ status, orderId, unknown, totalCents, askedAt }: Answer): string | undefined {
      const order = orderId === undefined ? undefined : byId.get(orderId)
      if (status === 200 && !order) return `a 200 named order ${orderId}, which does not stand`
      if (status === 200 && order!.totalCents !== totalCents)
        return `a 200 said ${totalCents} of order ${orderId}, which is ${order!.totalCents}`
      if (status === 0 || status === 200 || unknown) return undefined
      if (order) return `a ${status} named order ${orderId}, which stands`
      if (status >= 500 && own && own.createdAt < askedAt) return `a ${status} denied order ${own.id}, which stood`
      return undefined
    }
  })
}

const stock: Invariant = ({ orders, shelf, rows, follows }) => {
  const unitsOf = (productId: number, status: string) =>
    sum(
      orders
        .filter((order) => order.status === status)
        .flatMap(({ items }) => items.map((one) => (one.productId === productId ? one.qty : 0))),
    )
  return shelf.flatMap(({ productId, stockBefore, heldBefore, others, inStock, reserved }) => {
    const found: string[] = []
    const held = heldBefore + unitsOf(productId, 'CREATED')
    if (reserved !== held) found.push(`product ${productId}: Catalog holds ${reserved}, our orders ${held}`)
    const row = rows.find((one) => one.productId === productId)
    if (row && row.reserved !== reserved) found.push(`product ${productId}: Catalog holds ${reserved}, our row ${row.reserved}`)
    if (row && row.inStock !== null && row.inStock !== inStock)
      found.push(`product ${productId}: Catalog has ${inStock}, our row ${row.inStock}`)
    const off = inStock - (stockBefore + others - unitsOf(productId, 'PAID'))
    const { followed, tooMany, tooFew } = follows.find((one) => one.productId === productId) ?? { followed: 0, tooMany: 0, tooFew: 0 }
    if (off + others !== followed)
      found.push(`product ${productId}: Catalog's stock is off by ${off}, others brought ${others}, and our row followed ${followed}`)
    if (off > tooMany || -off > tooFew)
      found.push(`product ${productId}: Catalog's stock is off by ${off}; listed as ambiguous: ${tooMany} too many, ${tooFew} too few`)
    return found
  })
}

const counters: Invariant = ({ miscounts }) =>
  miscounts.map(({ productId, counted, held }) => `product ${productId}: counted ${counted}, orders and open checkouts add up to ${held}`)

/** Calls that were answered in time: on one product they come one after the other. */
const overlaps: Invariant = ({ calls }) => {
  const byProduct = Map.groupBy(
    calls.flatMap((call) => call.products.map((productId) => ({ productId, call }))),
    ({ productId }) => productId,
  )
  return [...byProduct].flatMap(([productId, all]) => {
    const sorted = all.map(({ call }) => call).sort((a, b) => a.from - b.from)
    return sorted.flatMap((call, i) => {
      const before = sorted[i - 1]
      // Both clocks are read in whole milliseconds.
      if (!before || before.to <= call.from + 1) return []
      return [`product ${productId}: ${before.call} ${before.key} and ${call.call} ${call.key} overlapped`]
    })
  })
}

/** Units by which Catalog's stock is off. */
export function unitsOff({ orders, shelf }: Pick<Evidence, 'orders' | 'shelf'>): { productId: number; units: number }[] {
  const paid = orders.filter(({ status }) => status === 'PAID').flatMap(({ items }) => items)
  return shelf.flatMap(({ productId, stockBefore, others, inStock }) => {
    const units = inStock - (stockBefore + others - sum(paid.map((one) => (one.productId === productId ? one.qty : 0))))
    return units === 0 ? [] : [{ productId, units }]
  })
}

export const unitsOf = (orders: Evidence['orders']): number => sum(orders.flatMap(({ items }) => items.map(({ qty }) => qty)))

/** Over all seeds together, since one has hardly more than a thousand units. */
export function tooManyOff(off: number, units: number): string[] {
  return off > Math.ceil(units * MOST_OFF) ? [`${off} of ${units} units are wrong in Catalog's stock`] : []
}

const shipments: Invariant = ({ orders, shipments: all }) => {
  const counts = countOf(all)
  return orders
    .flatMap(({ id }) => (counts.get(id) === 1 ? [] : [`order ${id}: ${counts.get(id) ?? 0} shipments`]))
    .concat(
      [...counts].flatMap(([id, count]) =>
        count > 1 && !orders.some((order) => order.id === id) ? [`checkout ${id}, no order: ${count} drafts`] : [],
      ),
    )
}

/** A consumer that knows events by their ids sees each order created, then paid, and no other order. */
const events: Invariant = ({ orders, events: all }) => {
  const found: string[] = []
  const seen = new Map<number, string[]>()
  const ids = new Set<string>()
  const stands = new Set(orders.map(({ id }) => id))
  for (const { key, event } of all) {
    const { event_id: eventId, order_id: orderId, type } = event as typeof event & { order_id: number; type: string }
    if (key !== String(orderId)) found.push(`an event of order ${orderId} has the key ${key}`)
    if (!stands.has(orderId)) found.push(`${type} of ${orderId}, which is no order`)
    if (ids.has(eventId)) continue
    ids.add(eventId)
    seen.set(orderId, [...(seen.get(orderId) ?? []), type])
  }
  for (const { id, status } of orders) {
    const expected = status === 'PAID' ? 'order.created, order.paid' : 'order.created'
    const was = (seen.get(id) ?? []).join(', ')
    if (was !== expected) found.push(`order ${id}, ${status}: its events are ${was || 'none'}`)
  }
  return found
}

/** PAID if and only if paid and committed, once. That the commit counted once is said by Catalog's stock. */
const payments: Invariant = ({ orders, paid, commits, paying }) => {
  const committed = countOf(commits)
  const appliedTo = countOf(paying)
  return orders.flatMap(({ id, status }) => {
    const found: string[] = []
    if (paid.has(id) && status !== 'PAID') found.push(`order ${id}: was paid, and is ${status}`)
    if (!paid.has(id) && status !== 'CREATED') found.push(`order ${id}: was not paid, and is ${status}`)
    if (status === 'PAID' && !committed.has(id)) found.push(`order ${id}: is PAID, and Catalog committed nothing`)
    if (status !== 'PAID' && committed.has(id)) found.push(`order ${id}: is ${status}, and Catalog committed it`)
    const times = appliedTo.get(id) ?? 0
    if (times !== (status === 'PAID' ? 1 : 0)) found.push(`order ${id}: is ${status}, by ${times} payment events`)
    return found
  })
}

const totals: Invariant = ({ messages, totals: { consumed, ...entries } }) => {
  const { applied, duplicate, dead, waiting, ignored } = entries
  const found: string[] = []
  if (consumed !== applied + duplicate + dead + waiting + ignored) found.push(`the bridge consumed ${consumed}: ${JSON.stringify(entries)}`)
  if (consumed < messages) found.push(`the bridge consumed ${consumed} of ${messages} messages`)
  return found
}

const nothingOpen: Invariant = ({ open }) => open.map((what) => `still open: ${what}`)

const endings: Invariant = ({ endings: all }) =>
  all.flatMap(({ process, code, ms }) => {
    if (code !== 0) return [`${process}: ended with ${code} on SIGTERM`]
    return ms > MOST_ENDING_MS ? [`${process}: took ${Math.round(ms)} ms to end on SIGTERM`] : []
  })

const invariants: Record<string, Invariant> = {
  customers,
  answers,
  stock,
  counters,
  overlaps,
  shipments,
  events,
  payments,
  totals,
  'nothing open': nothingOpen,
  endings,
}

/** @returns a line for each, with the name of what does not hold before it */
export function violationsOf(evidence: Evidence): string[] {
  return Object.entries(invariants).flatMap(([name, holds]) => holds(evidence).map((line) => `${name}: ${line}`))
}

const sum = (numbers: readonly number[]) => numbers.reduce((all, one) => all + one, 0)

function countOf(ids: readonly number[]): Map<number, number> {
  const counts = new Map<number, number>()
  for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1)
  return counts
}
