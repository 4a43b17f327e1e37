/** One call that changes stock for an order: under the leases of its products, with what is in doubt mended first and afterwards. */
import { NoAnswer } from '../clients/http.ts'
import type { Epochs } from '../db/checkout-statements.ts'
import type { ProductAtIntent } from '../db/intents.ts'
import type { DoubtfulCall } from '../db/stock-ledger.ts'
import type { StockVerb } from '../model.ts'
import { enoughFor, type Lease, type Leases } from './leases.ts'
import { mend, type MendingParts, type MendingTerms } from './mending.ts'

export interface StockParts extends MendingParts {
  leases: Leases
  /** Tells the mender of products that somebody has to come to again. */
  wakeMender(productIds: readonly number[]): void
}

export interface StockCall {
  verb: StockVerb
  orderId: number
  attempt: number
  /** In the order of product ids. */
  products: readonly ProductAtIntent[]
  idempotencyKey: string
  /** Epoch ms: nobody waits for a lease, or mends, beyond it. */
  deadline: number
  /** Asked under the leases: false, and nothing is sent. */
  wanted(): Promise<boolean>
}

/** `done`: to be put on record by {@link StockCallDone.record}, which lets the leases go. */
export type StockCallResult = StockCallDone | { answer: 'refused'; status: number; detail: string } | { answer: 'unwanted' }

export interface StockCallDone {
  answer: 'done'
  /** Whether others want the products, as far as can be seen: they wait until it is on record. */
  contested(): boolean
  /**
   * @param write puts the outcome on record under the epochs that the products had when the call was made; false where it may not count
   * @throws StockFault where it did not count: the call is in doubt then, and mended
   */
  record(write: (epochs: Epochs) => Promise<boolean>): Promise<void>
}

/**
 * The call did not come to an outcome, and may be made again.
 * `settled`: what it may have left stands in PostgreSQL. `sent` is false where it never reached Catalog.
 */
export class StockFault extends Error {
  override name = 'StockFault'
  readonly settled: boolean
  readonly sent: boolean

  constructor(message: string, { settled, sent, cause }: { settled: boolean; sent: boolean; cause?: unknown }) {
    super(message, { cause })
    this.settled = settled
    this.sent = sent
  }
}

/**
 * @returns what Catalog said; a refusal changed nothing
 * @throws StockFault; LeaseTimeout; what Redis or PostgreSQL throw while nothing has been sent
 */
export async function callStock(parts: StockParts, call: StockCall): Promise<StockCallResult> {
  const { leases, ledger, catalog, callTimeoutMs } = parts
  const productIds = call.products.map(({ productId }) => productId)
  const calls: DoubtfulCall[] = call.products.map(({ productId, qty }) => {
    const { verb, orderId, attempt } = call
    return { productId, qty, verb, orderId, attempt }
  })
  const lease = await leases.take({ productIds, calls, deadline: call.deadline })
  let epochs: Epochs
  try {
    await writeDownExpired(parts, lease)
    if (!(await call.wanted())) {
      lease.letGo()
      return { answer: 'unwanted' }
    }
    epochs = await readyProducts(parts, call, lease)
  } catch (error) {
    lease.letGo()
    if (error instanceof NoAnswer) throw new StockFault(error.message, { settled: true, sent: error.sent, cause: error })
    throw error
  }

  try {
    const answer = await catalog.change({
      verb: call.verb,
      items: call.products,
      idempotencyKey: call.idempotencyKey,
      mayGo: () => lease.keep(enoughFor(callTimeoutMs)),
    })
    if (answer.answer === 'refused') {
      lease.letGo()
      return answer
    }
  } catch (error) {
    if (error instanceof NoAnswer && error.sent) return doubtAndMend(error.message, error.settlesAt, error)
    lease.letGo()
    const message = error instanceof Error ? error.message : String(error)
    throw new StockFault(message, { settled: true, sent: false, cause: error })
  }

  return {
    answer: 'done',
    contested: () => lease.waited || lease.wanted(),
    async record(write) {
      let counts: boolean
      try {
        counts = await write(epochs)
      } catch (error) {
        // It may be on record or not. The lease runs out, or the next attempt says that this one's call is in doubt.
        throw new StockFault(`the record of ${call.verb} got no answer`, { settled: false, sent: true, cause: error })
      }
      if (counts) lease.letGo()
      else await doubtAndMend(`the record of ${call.verb} was refused`, parts.clock.now(), undefined)
    },
  }

  /** Where PostgreSQL cannot be written to, the lease stays: it runs out, and says the same. */
  async function doubtAndMend(message: string, notBefore: number, cause: unknown): Promise<never> {
    await ledger.doubt(calls).catch((error: unknown) => {
      throw new StockFault(`${message}, and that could not be written down`, { settled: false, sent: true, cause: error })
    })
    const mended = await mendAll(parts, productIds, lease, { notBefore, deadline: call.deadline }).catch(() => undefined)
    lease.letGo()
    parts.wakeMender(productIds)
    throw new StockFault(mended ? message : `${message}; mending goes on`, { settled: true, sent: true, cause })
  }
}

/** What leases covered that ran out is in doubt. Where it cannot be written down, the lease's next taker is told it again. */
export async function writeDownExpired({ ledger }: Pick<StockParts, 'ledger'>, lease: Lease): Promise<void> {
  if (lease.expired.length === 0) return
  await ledger.doubt(lease.expired)
  lease.expiredOnRecord()
}

/** Under the leases: the products' epochs, where need be after a first look or after mending. */
async function readyProducts(parts: StockParts, { products, deadline }: StockCall, lease: Lease): Promise<Epochs> {
  const known = products.filter((product): product is ProductAtIntent & { epoch: number } => product.epoch !== null)
  if (known.length === products.length && !lease.waited && lease.expired.length === 0) return known
  const productIds = products.map(({ productId }) => productId)
  const epochs = await parts.ledger.ready(productIds)
  const mended = await mendAll(
    parts,
    productIds.filter((id) => !epochs.has(id)),
    lease,
    { notBefore: parts.clock.now(), deadline },
  )
  return productIds.map((productId) => ({ productId, epoch: epochs.get(productId) ?? mended!.get(productId)! }))
}

/** @throws StockFault where one of them cannot be brought to agree now: the mender has it then, and those after it */
async function mendAll(parts: StockParts, productIds: readonly number[], lease: Lease, terms: MendingTerms): Promise<Map<number, number>> {
  const epochs = new Map<number, number>()
  for (const [i, productId] of productIds.entries()) {
    const mended = await mend(parts, productId, lease, terms)
    if (!mended.agreed) {
      parts.wakeMender(productIds.slice(i))
      throw new StockFault(`product ${productId} is being mended: ${mended.reason}`, { settled: true, sent: false })
    }
    epochs.set(productId, mended.epoch)
  }
  return epochs
}
