/**
 * Holds what is written down after each look at Catalog to what really happened. Somebody else's pieces cannot be told from a restock of
 * ours that got no answer, nor a commit and a reserve that both came late from none: where two stories fit, the wrong one may be taken.
 * Each such piece is noted, with whether the truth was among the stories.
 */
import { type Doubt, effectOf } from '../../../src/db/stock-ledger.ts'
import type { PlayedLedger } from './ledger.ts'
import type { Life } from './world.ts'

export interface Misreading {
  productId: number
  /** What is offered too many since; below 0: too few. */
  pieces: number
  /**
   * `two-stories`: the truth fitted as well. `sold`: pieces restocked too many could not be taken back. `overwritten`: a call that came
   * long after its time-out met another one at Catalog. `after-another`: what follows from a wrong story before. `none`: none of these.
   */
  why: 'two-stories' | 'sold' | 'overwritten' | 'after-another' | 'none'
}

export interface Audit {
  misreadings: Misreading[]
  /** Catalog is looked at, at this moment. */
  looks(life: Life, productId: number): void
  /** The ledger, as one process writes it. */
  ledgerOf(life: Life): PlayedLedger
}

interface Truth {
  /** What `in_stock` of a product would be now if every piece were where it belongs. */
  shouldSay(productId: number): number
  /** Whether calls of ours met there. */
  wasOverwritten(productId: number): boolean
}

export function playAudit(ledger: PlayedLedger, { shouldSay, wasOverwritten }: Truth): Audit {
  const misreadings: Misreading[] = []
  const { products } = ledger.tables
  const doubtsOf = (productId: number) => ledger.tables.doubts.filter((doubt) => doubt.productId === productId)
  const wrongSoFar = (productId: number) =>
    misreadings.reduce((sum, misreading) => sum + (misreading.productId === productId ? misreading.pieces : 0), 0)

  /** @returns how many pieces of somebody else's the prediction does not have yet */
  const arrived = (productId: number, should: number) => should - products.get(productId)!.predictedStock + wrongSoFar(productId)

  return {
    misreadings,
    looks: (life, productId) => seen(life).set(productId, shouldSay(productId)),
    ledgerOf(life) {
      const shouldAt = (productId: number) => seen(life).get(productId)!
      return {
        ...ledger,
        settle(productId, epoch, finding) {
          const doubts = doubtsOf(productId)
          const truly = products.has(productId) ? arrived(productId, shouldAt(productId)) : 0
          if (!ledger.settle(productId, epoch, finding)) return false
          const effects = finding.happened.map(effectOf)
          const hold = effects.reduce((sum, effect) => sum + effect.hold, finding.unexplainedHold)
          const stock = effects.reduce((sum, effect) => sum + effect.stock, finding.followedStock)
          note(productId, finding.followedStock - truly, doubts, hold, stock - truly)
          return true
        },
        agreed(productId, epoch, doubts) {
          const truly = arrived(productId, shouldAt(productId))
          if (!ledger.agreed(productId, epoch, doubts)) return false
          note(productId, -truly, doubts, 0, -truly)
          return true
        },
        cannotHold(productId, epoch) {
          const before = products.get(productId)!.predictedStock
          ledger.cannotHold(productId, epoch)
          const pieces = products.get(productId)!.predictedStock - before
          if (pieces !== 0) misreadings.push({ productId, pieces, why: 'sold' })
        },
      }
    },
  }

  /** @param hold and `stock`: what of the difference the doubts truly made */
  function note(productId: number, pieces: number, doubts: readonly Doubt[], hold: number, stock: number): void {
    if (pieces === 0) return
    const isFirst = !misreadings.some((misreading) => misreading.productId === productId)
    const otherwise = wasOverwritten(productId) ? 'overwritten' : isFirst ? 'none' : 'after-another'
    misreadings.push({ productId, pieces, why: fits(doubts, hold, stock) ? 'two-stories' : otherwise })
  }
}

const looksOf = new WeakMap<Life, Map<number, number>>()

function seen(life: Life): Map<number, number> {
  const known = looksOf.get(life) ?? new Map<number, number>()
  looksOf.set(life, known)
  return known
}

/** Whether some of the doubts explain both. Catalog stops at 0 where a commit finds fewer held than it asks for. */
function fits(doubts: readonly Doubt[], hold: number, stock: number): boolean {
  let sums = new Map([['0 0 0', { hold: 0, stock: 0, lowered: 0 }]])
  for (const effect of doubts.map(effectOf)) {
    const grown = new Map(sums)
    for (const sum of sums.values()) {
      const next = { hold: sum.hold + effect.hold, stock: sum.stock + effect.stock, lowered: sum.lowered + Math.max(0, -effect.hold) }
      grown.set(`${next.hold} ${next.stock} ${next.lowered}`, next)
    }
    sums = grown
  }
  return [...sums.values()].some((sum) => sum.stock === stock && hold >= sum.hold && hold - sum.hold <= sum.lowered)
}
