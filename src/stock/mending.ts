/**
 * Mending: our rows are right, and Catalog's books of a product are brought to them (docs/stock.md). One rule for every call that was
 * sent and not answered, for holds of cancelled checkouts, and for what leaked before us.
 */
import type { Catalog, CatalogBooks } from '../clients/catalog.ts'
import { NoAnswer } from '../clients/http.ts'
import {
  type Books,
  effectOf,
  type Finding,
  type MendingAnswer,
  type MendingReason,
  type SentDoubt,
  type StockLedger,
} from '../db/stock-ledger.ts'
import type { StockVerb } from '../model.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { enoughFor, type Lease } from './leases.ts'
import { recognise, undecided } from './recognise.ts'

/** Time as the steps see it; a test moves its own. */
export interface Clock {
  /** ms, from any beginning, never backwards. */
  now(): number
  /** Epoch ms, in which deadlines are given. */
  wallTime(): number
  sleep(ms: number): Promise<void>
}

export interface MendingParts {
  catalog: Catalog
  ledger: StockLedger
  clock: Clock
  callTimeoutMs: number
  metrics: Metrics
}

export interface MendingTerms {
  /** On `Clock.now`: until then a call without an answer may still act. */
  notBefore: number
  /** Epoch ms: nothing is begun after it, nor waited for beyond it. */
  deadline: number
}

/** Each call is a doubt until it is answered. Three bring any extras to nothing, where all of them are; the mender comes again. */
const MOST_CALLS = 4
/** After a call without an answer Catalog is given a moment. */
const PAUSE_MS = 1000

/** How it ended: Catalog's books and ours agree, under this epoch; or somebody has to come again. */
export type Mended = { agreed: true; epoch: number; books: Books } | { agreed: false; reason: string }

/** One that was stopped, and lost its lease: what it saw is old, and nothing more of it counts. */
const overtaken: Mended = { agreed: false, reason: 'somebody else mends it' }
const leaseLost: Mended = { agreed: false, reason: 'the lease was lost' }

const nothingNew: Finding = { happened: [], unexplainedHold: 0, followedStock: 0, undecided: undefined }

/**
 * @param isDelivery whether pieces of somebody else seemed to have come, as long as fewer doubts were known
 * @returns undefined where Catalog says what we know
 */
function understand(books: Books, says: CatalogBooks, isDelivery = false): Finding | undefined {
  const hold = says.reserved - books.held - books.drift - books.extraHold
  const stock = says.inStock - books.predictedStock - books.extraStock
  if (hold === 0 && stock === 0) return undefined
  const happened = recognise(books.doubts, hold, stock)
  const effects = happened.map(effectOf)
  return {
    happened,
    unexplainedHold: effects.reduce((rest, effect) => rest - effect.hold, hold),
    followedStock: effects.reduce((rest, effect) => rest - effect.stock, stock),
    undecided: undecided(books.doubts, hold, stock, happened, isDelivery),
  }
}

interface MendingCall {
  verb: StockVerb
  qty: number
  why: MendingReason
}

/**
 * What is needed to bring extras to nothing, one call at a time. Restock before anything else: while it is missing, pieces are offered to nobody.
 * @param free pieces that Catalog would give: of a restock too many some may be sold already, and the others are taken back
 */
function nextCall({ extraHold, extraStock }: Books, { free, canRelease }: { free: number; canRelease: boolean }): MendingCall | undefined {
  if (extraStock < 0) return { verb: 'restock', qty: -extraStock, why: 'stock-short' }
  if (extraHold > 0) {
    // A commit takes a piece too many with its hold. Without a release, what it takes beyond those is restocked in the next round.
    if (canRelease && extraStock <= 0) return { verb: 'release', qty: extraHold, why: 'hold-of-nobody' }
    return { verb: 'commit', qty: canRelease ? Math.min(extraHold, extraStock) : extraHold, why: 'hold-of-nobody' }
  }
  if (extraHold < 0) return { verb: 'reserve', qty: -extraHold, why: 'hold-missing' }
  if (extraStock > 0) return { verb: 'reserve', qty: Math.min(extraStock, Math.max(free, 1)), why: 'stock-extra' } // the next round commits it
  return undefined
}

/** Refusals that say that there is no such piece. Any other one (a key that is wrong, too many calls) says nothing of the stock. */
const saysNoStock = new Set([404, 409])

/**
 * Works on one product, under its lease, until Catalog says what it should, its time is over, or Catalog has been asked often enough.
 * Where it ends while a call may still act, the lease is left to run out, and covers it until then.
 * @throws NoAnswer where Catalog cannot even be looked at
 */
export async function mend(
  { catalog, ledger, clock, callTimeoutMs, metrics }: MendingParts,
  productId: number,
  lease: Pick<Lease, 'keep' | 'runOut'>,
  { notBefore, deadline }: MendingTerms,
): Promise<Mended> {
  const enough = enoughFor(callTimeoutMs)
  /** On `clock`: when Catalog is asked on, and from when on no call of ours acts any more. */
  let goesOnAt = notBefore
  let settledAt = notBefore
  try {
    return await work()
  } finally {
    if (clock.now() < settledAt) lease.runOut()
  }

  async function work(): Promise<Mended> {
    // First of all: whoever had the lease before and wakes up late finds its record refused, and what it saw of the books too. One that
    // woke up so itself refuses nobody's.
    if (!(await lease.keep(enough))) return leaseLost
    let epoch = (await ledger.raiseEpoch(productId)) ?? (await meet())

    for (let calls = 0; ; ) {
      const wait = Math.max(0, goesOnAt - clock.now())
      if (clock.wallTime() + wait >= deadline) return { agreed: false, reason: 'the time for it is over' }
      if (!(await lease.keep(enough))) return leaseLost
      if (wait > 0) {
        await clock.sleep(Math.min(1000, wait))
        continue
      }
      const seen = await look(epoch)
      if (!seen) return overtaken
      const { books, says } = seen
      const next = nextCall(books, { free: says.inStock - says.reserved, canRelease: catalog.mayRelease() })
      if (!next) return (await ledger.agreed(productId, epoch, books.doubts)) ? { agreed: true, epoch, books } : overtaken
      if (calls === MOST_CALLS) return { agreed: false, reason: `${calls} calls did not bring it about` }
      calls += 1
      const doubt = await ledger.sending(productId, epoch, next.verb, next.qty)
      if (!doubt) return overtaken
      epoch = doubt.epoch
      const { answer, status } = await send(doubt, next.why)
      metrics.mendings.inc({ verb: next.verb, answer })
      if (answer === 'done') metrics.mendedPieces.inc({ verb: next.verb }, next.qty)
      // One that Catalog turned out not to have is done without.
      if (answer === 'refused' && !(next.verb === 'release' && !catalog.mayRelease())) {
        if (next.verb === 'reserve' && saysNoStock.has(status!)) await ledger.cannotHold(productId, epoch)
        return { agreed: false, reason: `catalog refused to ${next.verb} ${next.qty} of product ${productId}` }
      }
    }
  }

  async function meet(): Promise<number> {
    await ledger.meet(productId, await catalog.look(productId))
    return (await ledger.raiseEpoch(productId))!
  }

  /** @returns our books of the product, with what Catalog says understood and written down; undefined where somebody else mends it since */
  async function look(epoch: number): Promise<{ books: Books; says: CatalogBooks } | undefined> {
    const says = await catalog.look(productId)
    let books = await ledger.read(productId)
    if (books.epoch !== epoch) return undefined
    let finding = understand(books, says)
    if (!finding) return { books, says }
    // A lease that was lost with Redis tells nobody of its call: our rows do. Calls that together with pieces of somebody else explain what
    // is seen may only look like it.
    const isDoubtful =
      finding.unexplainedHold !== 0 || finding.followedStock < 0 || (finding.followedStock > 0 && finding.happened.length > 0)
    if (isDoubtful && (await ledger.doubtUnsettled(productId))) {
      books = await ledger.read(productId)
      finding = understand(books, says, finding.followedStock > 0) ?? nothingNew
    }
    if (!(await ledger.settle(productId, epoch, finding))) return undefined
    const { unexplainedHold, followedStock } = finding
    if (unexplainedHold !== 0) metrics.mendings.inc({ verb: 'unexplained-hold', answer: 'seen' })
    if (followedStock !== 0) metrics.mendings.inc({ verb: 'follow', answer: 'seen' })
    return { books: await ledger.read(productId), says }
  }

  /** @returns `status`: of a refusal */
  async function send(doubt: SentDoubt, why: MendingReason): Promise<{ answer: MendingAnswer; status?: number }> {
    const { verb, qty } = doubt
    let said: { answer: MendingAnswer; status?: number }
    try {
      // Each mending call is a call of its own, and has a key of its own.
      const idempotencyKey = `mending:${doubt.id}`
      said = await catalog.change({ verb, items: [{ productId, qty }], idempotencyKey, mayGo: () => lease.keep(enough) })
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error
      // What was never sent did not happen, as little as what was refused; but there is nobody to ask on.
      if (!error.sent) {
        await ledger.answered(productId, doubt, 'refused', why)
        throw error
      }
      said = { answer: 'unknown' }
      settledAt = error.settlesAt
      goesOnAt = Math.max(settledAt, clock.now() + PAUSE_MS)
    }
    await ledger.answered(productId, doubt, said.answer, why)
    return said
  }
}
