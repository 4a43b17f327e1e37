/** Which of the doubts happened, given what Catalog says; and what that leaves undecided. */
import { type Doubt, effectOf, type Undecided } from '../db/stock-ledger.ts'

/** Beyond so many sums the search keeps those it has: with some twenty doubts of different sizes on one product a person has to look anyway. */
const MOST_SUMS = 20_000

interface Story {
  hold: number
  stock: number
  /** Reserves, commits and releases in it. */
  calls: number
  /** Pieces by which its commits and releases lower the hold: Catalog stops at 0, and lowers it by fewer where it has fewer. */
  lowered: number
  restocked: number
  doubts: readonly Doubt[]
}

/** All of it; or, where the stock says to the piece which calls came, all but what Catalog did not have to lower. */
function explainsHold(story: Pick<Story, 'hold' | 'stock' | 'lowered'>, hold: number, stock: number): boolean {
  const notLowered = hold - story.hold
  return notLowered === 0 || (notLowered > 0 && notLowered <= story.lowered && stock === story.stock)
}

/**
 * The stories that fit. Where none explains the hold, a call that came long after its time-out met another one at Catalog, and one
 * overwrote the other: then the stock alone is asked, and only about restocks, which are what would be offered too many.
 */
function fitting<Sum extends Pick<Story, 'hold' | 'stock' | 'lowered' | 'calls'>>(sums: Iterable<Sum>, hold: number, stock: number): Sum[] {
  const all = [...sums]
  const whole = all.filter((sum) => explainsHold(sum, hold, stock))
  return whole.length > 0 ? whole : all.filter((sum) => sum.calls === 0 && sum.stock <= Math.max(0, stock))
}

const better = (a: readonly number[], b: readonly number[]): boolean => {
  const at = a.findIndex((value, i) => value !== b[i])
  return at >= 0 && a[at]! < b[at]!
}

/**
 * Only we touch `reserved`: the doubts that happened explain all of it, as few as can be. Of `in_stock` they may leave a rest that
 * somebody else brought. A commit that came late may have found nothing held that it could lower: it is known by the stock alone, to
 * the piece. Between two stories it is the one that offers fewer pieces: pieces that wrongly stay unsold are found again, pieces sold
 * twice are not.
 * @param hold what `reserved` says beyond what we know
 * @param stock what `in_stock` says beyond what we know
 * @returns the doubts that happened
 */
export function recognise(doubts: readonly Doubt[], hold: number, stock: number): readonly Doubt[] {
  let stories = new Map<string, Story>([['0 0', { hold: 0, stock: 0, calls: 0, lowered: 0, restocked: 0, doubts: [] }]])
  for (const doubt of doubts) {
    const grown = new Map(stories)
    const effect = effectOf(doubt)
    const isRestock = doubt.verb === 'restock'
    for (const story of stories.values()) {
      const next: Story = {
        hold: story.hold + effect.hold,
        stock: story.stock + effect.stock,
        calls: story.calls + (isRestock ? 0 : 1),
        lowered: story.lowered + Math.max(0, -effect.hold),
        restocked: story.restocked + (isRestock ? doubt.qty : 0),
        doubts: [...story.doubts, doubt],
      }
      const key = `${next.hold} ${next.stock}`
      const known = grown.get(key)
      if (!known || better([next.calls, -next.restocked], [known.calls, -known.restocked])) grown.set(key, next)
    }
    stories = grown
    if (stories.size > MOST_SUMS) break
  }
  // A rest below 0 would mean that somebody else took pieces away, which nobody does: such a story comes last.
  const rank = (story: Story) => [
    stock < story.stock ? 1 : 0,
    hold === story.hold ? 0 : 1,
    story.calls,
    stock === story.stock ? 0 : 1,
    -story.restocked,
  ]
  let best: Story | undefined
  for (const story of fitting(stories.values(), hold, stock)) if (!best || better(rank(story), rank(best))) best = story
  return best?.doubts ?? []
}

/**
 * Pieces came, and it is not known for certain whose they are: a restock of ours may have been somebody else's delivery, and of a
 * delivery some may have gone into calls that left no trace but that. What the other stories that fit would mean, in pieces.
 * Deliveries that no look shows are not thought of: every commit beside a reserve of as many would leave that open.
 * @param taken the story that was taken
 * @param isDelivery whether pieces seem to have come, though by this story none did
 * @returns undefined where nothing came, or all stories offer as many pieces
 */
export function undecided(
  doubts: readonly Doubt[],
  hold: number,
  stock: number,
  taken: readonly Doubt[],
  isDelivery = false,
): Undecided | undefined {
  const stockTaken = taken.reduce((sum, doubt) => sum + effectOf(doubt).stock, 0)
  if (!isDelivery && stock <= stockTaken && !taken.some(({ verb }) => verb === 'restock')) return undefined
  let sums = new Map([['0 0 0', { hold: 0, stock: 0, lowered: 0, calls: 0 }]])
  for (const doubt of doubts) {
    const grown = new Map(sums)
    const effect = effectOf(doubt)
    for (const sum of sums.values()) {
      const next = {
        hold: sum.hold + effect.hold,
        stock: sum.stock + effect.stock,
        lowered: sum.lowered + Math.max(0, -effect.hold),
        calls: sum.calls + (doubt.verb === 'restock' ? 0 : 1),
      }
      const key = `${next.hold} ${next.stock} ${next.lowered}`
      if (next.calls < (grown.get(key)?.calls ?? Number.POSITIVE_INFINITY)) grown.set(key, next)
    }
    sums = grown
    if (sums.size > MOST_SUMS) break
  }
  let tooMany = 0
  let tooFew = 0
  for (const sum of fitting(sums.values(), hold, stock)) {
    if (sum.stock > stock) continue
    tooMany = Math.max(tooMany, sum.stock - stockTaken)
    tooFew = Math.max(tooFew, stockTaken - sum.stock)
  }
  return tooMany > 0 || tooFew > 0 ? { tooMany, tooFew, doubts, taken } : undefined
}
