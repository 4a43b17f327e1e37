import test from 'ava'
import type { Doubt } from '../../src/db/stock-ledger.ts'
import { recognise } from '../../src/stock/recognise.ts'

const doubts = (...calls: [Doubt['verb'], number][]): Doubt[] => calls.map(([verb, qty], id) => ({ id, verb, qty, since: new Date() }))

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
]
for (const [what, given, { hold, stock }, happened] of cases) {
  test(what, (t) => {
    t.deepEqual(
      recognise(given, hold, stock).map(({ id }) => id),
      happened,
    )
  })
}
