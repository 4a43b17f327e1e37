/**
 * Mending: our rows are right, and Catalog's books of a product are brought to them (docs/stock.md). One rule for every call that was
 * sent and not answered, for holds of cancelled checkouts, and for what leaked before us.
 */
import type { Catalog } from '../clients/catalog.ts'
import { NoAnswer } from '../clients/http.ts'
import { type Books, effectOf, type MendingAnswer, type StockLedger } from '../db/stock-ledger.ts'
import type { StockVerb } from '../model.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { enoughFor, type Lease } from './leases.ts'
import { recognise } from './recognise.ts'

/** Time as the steps see it; a test moves its own. */
export interface Clock {
  /** ms, from any beginning, never backwards. */
  now(): number
  sleep(ms: number): Promise<void>
}

export interface MendingParts {
  catalog: Catalog
  ledger: StockLedger
  clock: Clock
  callTimeoutMs: number
  metrics: Metrics
}

/** How it ended: Catalog's books and ours agree, under this epoch; or somebody has to come again. */
export type Mended = { agreed: true; epoch: number; books: Books } | { agreed: false; reason: string }

/** What is needed to bring extras to nothing, one call at a time. Restock before anything else: while it is missing, pieces are offered to nobody. */
function nextCall({ extraHold, extraStock }: Books): { verb: StockVerb; qty: number } | undefined {
  if (extraStock < 0) return { verb: 'restock', qty: -extraStock }
  if (extraHold > 0) return { verb: 'commit', qty: extraHold } // the stock is then short: the next round restocks it
  if (extraHold < 0) return { verb: 'reserve', qty: -extraHold }
  if (extraStock > 0) return { verb: 'reserve', qty: extraStock } // a restock too many: the next round commits it
  return undefined
}

/**
 * Works on one product, under its lease, until Catalog says what it should.
 * @param notBefore on `clock`: until then a call without an answer may still act
 * @throws NoAnswer where Catalog cannot even be looked at
 */
export async function mend(
  { catalog, ledger, clock, callTimeoutMs, metrics }: MendingParts,
  productId: number,
  lease: Pick<Lease, 'keep'>,
  notBefore: number,
): Promise<Mended> {
  const enough = enoughFor(callTimeoutMs)
  // First of all: whoever had the lease before and wakes up late finds its record refused.
  if (!(await ledger.raiseEpoch(productId))) await ledger.meet(productId, await catalog.look(productId))

  for (;;) {
    if (!(await lease.keep(enough))) return { agreed: false, reason: 'the lease was lost' }
    const wait = notBefore - clock.now()
    if (wait > 0) {
      await clock.sleep(Math.min(1000, wait))
      continue
    }
    const says = await catalog.look(productId)
    let books = await ledger.read(productId)
    const hold = says.reserved - books.held - books.drift - books.extraHold
    const stock = says.inStock - books.predictedStock - books.extraStock
    if (hold !== 0 || stock !== 0) {
      const happened = recognise(books.doubts, hold, stock)
      const effects = happened.map(effectOf)
      const unexplainedHold = effects.reduce((rest, effect) => rest - effect.hold, hold)
      const followedStock = effects.reduce((rest, effect) => rest - effect.stock, stock)
      await ledger.settle(productId, { happened, unexplainedHold, followedStock })
      if (unexplainedHold !== 0) metrics.mendings.inc({ verb: 'unexplained-hold', answer: 'seen' })
      if (followedStock !== 0) metrics.mendings.inc({ verb: 'follow', answer: 'seen' })
      books = await ledger.read(productId)
    }

    const next = nextCall(books)
    if (!next) {
      await ledger.agreed(productId, books.doubts)
      return { agreed: true, epoch: books.epoch, books }
    }
    const answer = await send(next)
    metrics.mendings.inc({ verb: next.verb, answer })
    if (answer === 'unknown') notBefore = clock.now() + 1000
    if (answer === 'refused') {
      if (next.verb === 'reserve') await ledger.cannotHold(productId)
      return { agreed: false, reason: `catalog refused to ${next.verb} ${next.qty} of product ${productId}` }
    }
  }

  async function send({ verb, qty }: { verb: StockVerb; qty: number }): Promise<MendingAnswer> {
    const doubt = await ledger.sending(productId, verb, qty)
    let answer: MendingAnswer
    try {
      // Each mending call is a call of its own, and has a key of its own.
      const idempotencyKey = `mending:${doubt.id}`
      const said = await catalog.change({ verb, items: [{ productId, qty }], idempotencyKey, mayGo: () => lease.keep(enough) })
      answer = said.answer
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error
      // What was never sent did not happen, as little as what was refused; but there is nobody to ask on.
      if (!error.sent) {
        await ledger.answered(productId, doubt, 'refused')
        throw error
      }
      answer = 'unknown'
    }
    await ledger.answered(productId, doubt, answer)
    return answer
  }
}
