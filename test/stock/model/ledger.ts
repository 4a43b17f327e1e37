/** The tables of products, doubts and mendings in memory, with the verbs of src/db/stock-ledger.ts: ledger.test.ts holds the two together. */

import type { UndecidedPieces } from '../../../src/db/ledger-view.ts'
import { type Books, type Doubt, type DoubtfulCall, effectOf, type MendingReason, type StockLedger } from '../../../src/db/stock-ledger.ts'
import type { ProductQty, StockVerb } from '../../../src/model.ts'

/** Verbs that answer at once. */
export type AtOnce<Verbs> = {
  [Name in keyof Verbs]: Verbs[Name] extends (...input: infer Input) => Promise<infer Output> ? (...input: Input) => Output : never
}

export interface ProductRow {
  drift: number
  predictedStock: number
  extraHold: number
  extraStock: number
  epoch: number
  unsellable: boolean
}

export interface DoubtRow extends Doubt {
  productId: number
  orderId: number | null
  attempt: number | null
  lookedAt: number | null
}

export interface StockTables {
  products: Map<number, ProductRow>
  doubts: DoubtRow[]
  mendings: {
    productId: number
    verb: StockVerb | 'follow' | 'unexplained-hold'
    qty: number
    answer: string
    orderId?: number | null
    why?: MendingReason
  }[]
  undecided: UndecidedPieces[]
}

export interface PlayedLedger extends AtOnce<StockLedger> {
  tables: StockTables
  epochOf(productId: number): number | null
}

/** Who has mended for so long has left it, in ms. */
const LEFT_MS = 60_000

/**
 * @param now epoch ms
 * @param heldOf what the rows of checkouts and orders hold of a product
 * @param unsettledCalls of which those rows do not say what became of them
 */
export function playLedger(
  now: () => number,
  heldOf: (productId: number) => number,
  unsettledCalls: (productId: number) => DoubtfulCall[],
): PlayedLedger {
  const tables: StockTables = { products: new Map(), doubts: [], mendings: [], undecided: [] }
  const { products, mendings } = tables
  const mendingSince = new Map<number, number>()
  let lastDoubt = 0

  function write(productId: number, verb: StockVerb, qty: number, call?: { orderId: number; attempt: number }): DoubtRow {
    lastDoubt += 1
    const doubt = { id: lastDoubt, productId, verb, qty, since: new Date(now()), orderId: null, attempt: null, lookedAt: null, ...call }
    tables.doubts.push(doubt)
    return doubt
  }

  const remove = (ids: readonly number[]): number => {
    const before = tables.doubts.length
    tables.doubts = tables.doubts.filter(({ id }) => !ids.includes(id))
    return before - tables.doubts.length
  }

  const mine = (productId: number, epoch: number): ProductRow | undefined =>
    products.get(productId)?.epoch === epoch ? products.get(productId) : undefined

  function add(row: ProductRow, call: { verb: StockVerb; qty: number }): void {
    row.extraHold += effectOf(call).hold
    row.extraStock += effectOf(call).stock
  }

  const isCall = (doubt: DoubtRow, { orderId, attempt, verb, productId }: DoubtfulCall) =>
    doubt.orderId === orderId && doubt.attempt === attempt && doubt.verb === verb && doubt.productId === productId

  /** @returns whether one of them stood nowhere before */
  function writeDown(calls: readonly DoubtfulCall[]): boolean {
    const fresh = calls.filter((call) => products.has(call.productId) && !tables.doubts.some((known) => isCall(known, call)))
    for (const call of fresh) write(call.productId, call.verb, call.qty, call)
    return fresh.length > 0
  }

  function note(mending: StockTables['mendings'][number]): void {
    if (mending.qty !== 0) mendings.push(mending)
  }

  function leaveOpen(
    productId: number,
    undecided: Pick<UndecidedPieces, 'tooMany' | 'tooFew'> | undefined,
    why: UndecidedPieces['why'],
  ): void {
    if (undecided) tables.undecided.push({ productId, taken: [], doubts: [], ...undecided, why, at: new Date(now()) })
  }

  function epochOf(productId: number): number | null {
    const row = products.get(productId)
    const isReady =
      row?.extraHold === 0 &&
      row.extraStock === 0 &&
      !tables.doubts.some((doubt) => doubt.productId === productId && doubt.lookedAt === null)
    return isReady ? row.epoch : null
  }

  const needs = (row: ProductRow, productId: number) =>
    row.extraHold !== 0 || row.extraStock !== 0 || tables.doubts.some((doubt) => doubt.productId === productId)

  return {
    tables,
    epochOf,
    ready: (productIds) =>
      new Map(productIds.map((id) => [id, epochOf(id)] as const).filter((entry): entry is [number, number] => entry[1] !== null)),
    meet(productId, { inStock, reserved }) {
      if (products.has(productId)) return
      const rest = reserved - heldOf(productId)
      products.set(productId, {
        drift: Math.max(0, rest),
        predictedStock: inStock,
        extraHold: Math.min(0, rest),
        extraStock: 0,
        epoch: 1,
        unsellable: false,
      })
    },
    raiseEpoch(productId) {
      const row = products.get(productId)
      if (!row) return undefined
      row.epoch += 1
      if (!mendingSince.has(productId)) mendingSince.set(productId, now())
      return row.epoch
    },
    read(productId): Books {
      const { drift, predictedStock, extraHold, extraStock, epoch } = products.get(productId)!
      const doubts = tables.doubts
        .filter((doubt) => doubt.productId === productId)
        .map(({ id, verb, qty, since, orderId }) => ({ id, verb, qty, since, orderId }))
      return { productId, held: heldOf(productId), drift, predictedStock, extraHold, extraStock, epoch, doubts }
    },
    doubt: (calls) => void writeDown(calls),
    doubtUnsettled: (productId) => writeDown(unsettledCalls(productId)),
    settle(productId, epoch, { happened, unexplainedHold, followedStock, undecided }) {
      const row = mine(productId, epoch)
      if (!row) return false
      note({ productId, verb: 'unexplained-hold', qty: unexplainedHold, answer: 'seen' })
      note({ productId, verb: 'follow', qty: followedStock, answer: 'seen' })
      leaveOpen(productId, undecided, 'two-stories')
      row.extraHold += unexplainedHold
      row.predictedStock += followedStock
      for (const doubt of happened) {
        const { verb, qty, orderId } = tables.doubts.find(({ id }) => id === doubt.id) ?? doubt
        if (remove([doubt.id]) === 0) continue
        add(row, doubt)
        note({ productId, verb, qty, answer: 'happened', orderId })
      }
      return true
    },
    sending(productId, epoch, verb, qty) {
      const row = mine(productId, epoch)
      if (!row) return undefined
      row.epoch += 1
      const { id, since } = write(productId, verb, qty)
      return { id, verb, qty, since, orderId: null, epoch: row.epoch }
    },
    answered(productId, doubt, answer, why) {
      note({ productId, verb: doubt.verb, qty: doubt.qty, answer, why })
      if (answer === 'unknown' || !(mine(productId, doubt.epoch) || answer === 'refused')) return
      if (remove([doubt.id]) === 0 || answer === 'refused') return
      add(products.get(productId)!, doubt)
    },
    cannotHold(productId, epoch) {
      const row = mine(productId, epoch)
      if (!row) return
      const sold = Math.max(0, row.extraStock)
      note({ productId, verb: 'follow', qty: sold, answer: 'seen' })
      if (sold > 0) leaveOpen(productId, { tooMany: sold, tooFew: 0 }, 'sold')
      row.predictedStock += sold
      row.extraStock = Math.min(0, row.extraStock)
      row.unsellable = row.extraHold < 0
    },
    agreed(productId, epoch, looked) {
      const row = mine(productId, epoch)
      if (!row) return false
      for (const doubt of tables.doubts) if (looked.some(({ id }) => id === doubt.id)) doubt.lookedAt ??= now()
      row.unsellable = false
      mendingSince.delete(productId)
      return true
    },
    forgetOld(productId, ageMs) {
      const isOld = (doubt: DoubtRow) => doubt.productId === productId && doubt.lookedAt !== null && doubt.since.getTime() < now() - ageMs
      remove(tables.doubts.filter(isOld).map(({ id }) => id))
    },
    isAtPeace(productId) {
      const row = products.get(productId)
      return row !== undefined && !needs(row, productId) && !mendingSince.has(productId)
    },
    inDoubt: () =>
      [...products]
        .filter(([id, row]) => needs(row, id) || now() - (mendingSince.get(id) ?? now()) > LEFT_MS)
        .map(([id]) => id)
        .sort((a, b) => a - b),
    count() {
      const inNeed = [...products].filter(([id, row]) => needs(row, id))
      return { inDoubt: inNeed.length, unsellable: inNeed.filter(([, row]) => row.unsellable).length }
    },
  }
}

/** The calls of one attempt: what {@link StockLedger.doubt} takes. */
export const callsOf = (items: readonly ProductQty[], verb: StockVerb, orderId: number, attempt: number): DoubtfulCall[] =>
  items.map(({ productId, qty }) => ({ productId, qty, verb, orderId, attempt }))
