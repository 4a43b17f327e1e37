import test from 'ava'
import type { Doubt } from '../../src/db/stock-ledger.ts'
import { recognise, undecided } from '../../src/stock/recognise.ts'

const doubts = (...calls: [Doubt['verb'], number][]): Doubt[] =>
  calls.map(([verb, qty], id) => ({ id, verb, qty, since: new Date(), orderId: null }))

const cases: [string, Doubt[], { hold: number; stock: number }, number[]][] = [
  ['nothing to explain, nothing happened', doubts(['reserve', 2]), { hold: 0, stock: 0 }, []],
  ['a hold is the reserve that got no answer', doubts(['reserve', 2]), { hold: 2, stock: 0 }, [0]],
  ['of two reserves the one that fits', doubts(['reserve', 2], ['reserve', 3]), { hold: 3, stock: 0 }, [1]],
  ['as few calls as can be', doubts(['reserve', 1], ['reserve', 2], ['reserve', 3]), { hold: 3, stock: 0 }, [2]],
  ['a commit takes hold and stock', doubts(['commit', 2]), { hold: -2, stock: -2 }, [0]],
  ['a commit that found nothing held is known by the stock', doubts(['commit', 2]), { hold: 0, stock: -2 }, [0]],
  ['of two commits one found too little', doubts(['commit', 2], ['commit', 2]), { hold: -3, stock: -4 }, [0, 1]],
  ['a commit that explains the hold is no second one', doubts(['commit', 2], ['commit', 2]), { hold: -2, stock: -2 }, [0]],
  ['what somebody else brought hides no commit that left no trace', doubts(['commit', 2]), { hold: 0, stock: 5 }, []],
  ['a missing hold is no commit while the stock is there', doubts(['commit', 2]), { hold: -1, stock: 0 }, []],
  ['a restock is known by the stock alone', doubts(['restock', 5]), { hold: 0, stock: 5 }, [0]],
  ['what somebody else brought is nobody’s doubt', doubts(['reserve', 2]), { hold: 2, stock: 7 }, [0]],
  ['a hold that no doubt explains stays unexplained', doubts(['reserve', 2]), { hold: 1, stock: 0 }, []],
  [
    'a restock that came late and overwrote a hold is known by the stock',
    doubts(['restock', 2], ['reserve', 3]),
    { hold: -2, stock: 2 },
    [0],
  ],
  [
    'of restocks that came late and overwrote a hold no more than came',
    doubts(['restock', 2], ['restock', 5]),
    { hold: -2, stock: 3 },
    [0],
  ],
  ['a release takes the hold alone', doubts(['release', 2], ['commit', 2]), { hold: -2, stock: 0 }, [0]],
]
for (const [what, given, { hold, stock }, happened] of cases) {
  test(what, (t) => {
    t.deepEqual(
      recognise(given, hold, stock).map(({ id }) => id),
      happened,
    )
  })
}

/** What another story than the one that is taken would mean, in pieces. */
const open: [string, Doubt[], { hold: number; stock: number }, [tooMany: number, tooFew: number] | undefined][] = [
  ['one story alone fits', doubts(['reserve', 2]), { hold: 2, stock: 5 }, undefined],
  ['a restock that may have been somebody else’s', doubts(['restock', 2]), { hold: 0, stock: 2 }, [0, 2]],
  ['of two restocks one, or both, or none', doubts(['restock', 2], ['restock', 3]), { hold: 0, stock: 3 }, [0, 3]],
  ['pieces are not taken for a restock of more', doubts(['restock', 5]), { hold: 0, stock: 2 }, undefined],
  [
    'a delivery beside a commit and a reserve that leave no other trace',
    doubts(['commit', 2], ['reserve', 2]),
    { hold: 0, stock: 3 },
    [0, 2],
  ],
  ['a delivery that no look shows is not thought of', doubts(['commit', 2], ['reserve', 2]), { hold: 0, stock: 0 }, undefined],
  [
    'a delivery beside two stories of which neither moves a piece',
    doubts(['release', 2], ['reserve', 2]),
    { hold: 0, stock: 3 },
    undefined,
  ],
  ['a restock that overwrote a hold, or somebody else’s delivery', doubts(['restock', 2]), { hold: -2, stock: 2 }, [0, 2]],
  ['a hold that nothing explains, and no pieces came', doubts(['restock', 2], ['reserve', 2]), { hold: -1, stock: 0 }, undefined],
  ['a release that was a commit', doubts(['release', 2], ['commit', 2]), { hold: -2, stock: 1 }, [0, 2]],
]
for (const [what, given, { hold, stock }, pieces] of open) {
  test(`undecided: ${what}`, (t) => {
    const found = undecided(given, hold, stock, recognise(given, hold, stock))
    t.deepEqual(found && [found.tooMany, found.tooFew], pieces)
  })
}
