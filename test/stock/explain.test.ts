/** What Catalog's answer means, and what is to be done about it: the worked examples of src/stock/explain.ts, and what holds for all numbers. */
import test from 'ava'
import type { Explanation, ProductCounters, UnansweredCall } from '../../src/db/reconciliation.ts'
import type { StockVerb } from '../../src/model.ts'
import { explain, nextCorrection } from '../../src/stock/explain.ts'

const row = (changes: Partial<ProductCounters> = {}): ProductCounters => ({
  expectedStock: 10,
  held: 4,
  foreignHolds: 0,
  holdCorrection: 0,
  stockCorrection: 0,
  ...changes,
})
let ids = 0
/** `commit 1`; `?` behind it: somebody has read Catalog since, and it had not happened. */
function call(text: string): UnansweredCall {
  const [, verb, qty, isChecked] = /^(\w+) (\d+)(\?)?$/.exec(text)!
  ids += 1
  return { callId: ids, verb: verb as StockVerb, qty: Number(qty), isChecked: isChecked !== undefined }
}

function meaning(counters: ProductCounters, calls: readonly string[], reserved: number, inStock: number) {
  const explanation = explain(counters, calls.map(call), { reserved, inStock }) as Extract<Explanation, { isFirst: false }>
  const { happened, unexplained, followed, ambiguities } = explanation
  return {
    happened: happened.map(({ verb, qty }) => `${verb} ${qty}`),
    unexplained,
    followed,
    listed: ambiguities.map(({ tooMany, tooFew }) => ({ tooMany, tooFew })),
  }
}
const none = { happened: [] as string[], unexplained: 0, followed: 0, listed: [] as { tooMany: number; tooFew: number }[] }

const examples: [
  what: string,
  calls: string[],
  says: [reserved: number, inStock: number],
  means: Partial<typeof none>,
  more?: Partial<ProductCounters>,
][] = [
  ['a reserve, and as many are held as before: it did not happen', ['reserve 2'], [4, 10], {}],
  ['a reserve, and so many more are held: it happened', ['reserve 2'], [6, 10], { happened: ['reserve 2'] }],
  ['a commit, and so many fewer are held and in stock: it happened', ['commit 1'], [3, 9], { happened: ['commit 1'] }],
  ['a commit that happened while others brought units', ['commit 1'], [3, 14], { happened: ['commit 1'], followed: 5 }],
  [
    'a commit that did not happen while others took as many: listed, since at 0 a late commit would hide',
    ['commit 1'],
    [4, 9],
    { followed: -1, listed: [{ tooMany: 0, tooFew: 1 }] },
  ],
  [
    'a commit and a release, and one unit less is held and in stock: the commit happened, and that is listed',
    ['commit 1', 'release 1'],
    [3, 9],
    { happened: ['commit 1'], listed: [{ tooMany: 1, tooFew: 0 }] },
  ],
  [
    'a commit and a release, and one unit less is held: the release happened',
    ['commit 1', 'release 1'],
    [3, 10],
    { happened: ['release 1'] },
  ],
  [
    'a commit, and a release that was checked before, and one unit less is held: the commit happened and others brought one, and that is listed',
    ['release 1?', 'commit 1'],
    [3, 10],
    { happened: ['commit 1'], followed: 1, listed: [{ tooMany: 1, tooFew: 0 }] },
  ],
  [
    'a reserve and a commit that nobody has checked: only both together explain what is held',
    ['reserve 1', 'commit 2'],
    [3, 9],
    { happened: ['reserve 1', 'commit 2'], followed: 1 },
  ],
  [
    'a reserve and a commit of as many, and as many are held as before while others brought units: it is listed that both may have happened',
    ['commit 1', 'reserve 1'],
    [4, 12],
    { followed: 2, listed: [{ tooMany: 0, tooFew: 1 }] },
  ],
  [
    'a restock, and what was missing is there: it happened, and that is listed',
    ['restock 1'],
    [4, 10],
    { happened: ['restock 1'], listed: [{ tooMany: 0, tooFew: 1 }] },
    { stockCorrection: -1 },
  ],
  [
    'a restock, and a part of what was missing is there: it did not happen, and it is listed that others may have taken the rest',
    ['restock 2'],
    [4, 9],
    { followed: 1, listed: [{ tooMany: 2, tooFew: 0 }] },
    { stockCorrection: -2 },
  ],
  ['a restock that was not seen at its check, and others brought units', ['restock 2?'], [4, 9], { followed: 1 }, { stockCorrection: -2 }],
  ['no call, and one unit more is held: it is held for nobody', [], [5, 10], { unexplained: 1 }],
]
for (const [what, calls, [reserved, inStock], means, more] of examples) {
  test(what, (t) => {
    t.deepEqual(meaning(row(more), calls, reserved, inStock), { ...none, ...means })
  })
}

test('a product that nobody has read yet is taken as Catalog says', (t) => {
  t.deepEqual(explain(row({ expectedStock: null }), [call('reserve 1')], { reserved: 7, inStock: 3 }), {
    isFirst: true,
    reserved: 7,
    inStock: 3,
  })
})

test('an explanation prefers a call that expired just now to one that was checked before', (t) => {
  t.deepEqual(meaning(row(), ['reserve 2?', 'reserve 2'], 6, 10).happened, ['reserve 2'])
  const [old, latest] = [call('reserve 2?'), call('reserve 2')]
  const explanation = explain(row(), [old, latest], { reserved: 6, inStock: 10 })
  t.false(explanation.isFirst)
  if (!explanation.isFirst) t.deepEqual(explanation.happened, [latest])
})

test('a call that acts late is found by its quantity, the oldest of several first', (t) => {
  t.deepEqual(meaning(row(), ['reserve 3?', 'reserve 2?'], 6, 10).happened, ['reserve 2'])
  const [first, second] = [call('reserve 2?'), call('reserve 2?')]
  const explanation = explain(row(), [first, second], { reserved: 6, inStock: 10 })
  if (!explanation.isFirst) t.deepEqual(explanation.happened, [first])
})

test('a commit of units of which Catalog lost the holds lowers what is held to 0 and no further: the stock says that it happened', (t) => {
  const lost = row({ foreignHolds: -4 })
  t.deepEqual(meaning(lost, ['commit 1'], 0, 9), { ...none, happened: ['commit 1'], listed: [{ tooMany: 1, tooFew: 0 }] })
  t.deepEqual(meaning(row({ foreignHolds: -3 }), ['commit 2'], 0, 8), {
    ...none,
    happened: ['commit 2'],
    listed: [{ tooMany: 2, tooFew: 0 }],
  })
  t.deepEqual(meaning(lost, ['commit 1'], 0, 10), none, 'nothing has changed: it did not happen')
})

test('corrections come in order: missing stock, then units held too much, then units held too little', (t) => {
  const next = (counters: Partial<ProductCounters>, { free = 5, canRelease = true } = {}) =>
    nextCorrection(row(counters), { free, canRelease })
  t.is(next({}), undefined)
  t.deepEqual(next({ stockCorrection: -2, holdCorrection: 1 }), { verb: 'restock', qty: 2, reason: 'stock-missing' })
  t.deepEqual(next({ holdCorrection: 3 }), { verb: 'release', qty: 3, reason: 'held-for-nobody' })
  t.deepEqual(next({ holdCorrection: 3 }, { canRelease: false }), { verb: 'commit', qty: 3, reason: 'held-for-nobody' })
  t.deepEqual(next({ holdCorrection: 3, stockCorrection: 2 }), { verb: 'commit', qty: 2, reason: 'stock-extra' })
  t.deepEqual(next({ holdCorrection: -2 }), { verb: 'reserve', qty: 2, reason: 'hold-missing' })
  t.deepEqual(next({ foreignHolds: -3 }), { verb: 'reserve', qty: 3, reason: 'hold-missing' })
  t.deepEqual(next({ foreignHolds: -3 }, { free: 2 }), { verb: 'reserve', qty: 2, reason: 'hold-missing' }, 'as much as is free')
  t.is(next({ foreignHolds: -3 }, { free: 0 }), undefined, 'oversold: nothing can be done until units come')
  t.is(next({ foreignHolds: 3 }), undefined, 'what others hold stays')
  t.deepEqual(next({ stockCorrection: 2 }), { verb: 'reserve', qty: 2, reason: 'stock-extra' })
  t.deepEqual(
    next({ stockCorrection: 2 }, { free: 0 }),
    { verb: 'reserve', qty: 1, reason: 'stock-extra' },
    'Catalog says that they are sold',
  )
})

/** mulberry32: the same numbers in every run. */
function numbers(seed: number): (from: number, to: number) => number {
  let state = seed
  return (from, to) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return from + Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * (to - from + 1))
  }
}

test('with one call without an answer, whatever others bring or take, the explanation is exact', (t) => {
  const between = numbers(1)
  for (let i = 0; i < 20_000; i += 1) {
    const counters = row({
      held: between(0, 8),
      foreignHolds: between(0, 3),
      holdCorrection: between(0, 2),
      expectedStock: between(12, 40),
    })
    const before = counters.held + counters.foreignHolds + counters.holdCorrection
    const verb = (['reserve', 'commit', 'release'] as const)[between(0, 2)]!
    const qty = between(1, 5)
    if (verb !== 'reserve' && qty > before) continue // Catalog stops at 0
    const hasHappened = between(0, 1) === 1
    const others = between(-5, 5)
    const says = {
      reserved: before + (hasHappened ? (verb === 'reserve' ? qty : -qty) : 0),
      inStock: counters.expectedStock! + others - (hasHappened && verb === 'commit' ? qty : 0),
    }
    // A release beside a fall of the stock is told by what is held alone.
    const found = meaning(counters, [`${verb} ${qty}`], says.reserved, says.inStock)
    const expected = { happened: hasHappened ? [`${verb} ${qty}`] : [], unexplained: 0, followed: others }
    const { listed, ...told } = found
    if (JSON.stringify(told) !== JSON.stringify(expected))
      return t.fail(`${verb} ${qty}, ${hasHappened}, others ${others}, ${JSON.stringify({ counters, says, told })}`)
    if (hasHappened && listed.length > 0) return t.fail(`nothing is ambiguous: ${JSON.stringify({ counters, says, listed })}`)
  }
  t.pass()
})

test('after any explanation the service’s rows agree with Catalog', (t) => {
  const between = numbers(2)
  const verbs = ['reserve', 'commit', 'release', 'restock'] as const
  for (let i = 0; i < 20_000; i += 1) {
    const counters = row({
      held: between(0, 6),
      foreignHolds: between(-3, 3),
      holdCorrection: between(-2, 2),
      stockCorrection: between(-2, 2),
    })
    const calls = Array.from({ length: between(0, 4) }, () => call(`${verbs[between(0, 3)]} ${between(1, 4)}${between(0, 1) ? '?' : ''}`))
    const says = { reserved: between(0, 10), inStock: between(0, 20) }
    const explanation = explain(counters, calls, says)
    if (explanation.isFirst) return t.fail()
    const { happened, unexplained, followed } = explanation
    const before = counters.held + counters.foreignHolds + counters.holdCorrection
    const committed = happened.reduce((sum, { verb, qty }) => sum + (verb === 'commit' ? qty : 0), 0)
    const notLowered = committed === 0 ? 0 : Math.max(0, committed - Math.max(0, before))
    const hold = happened.reduce((sum, { verb, qty }) => sum + (verb === 'reserve' ? qty : verb === 'restock' ? 0 : -qty), 0)
    const stock = happened.reduce((sum, { verb, qty }) => sum + (verb === 'restock' ? qty : verb === 'commit' ? -qty : 0), 0)
    if (before + hold + notLowered + unexplained !== says.reserved || 10 + counters.stockCorrection + stock + followed !== says.inStock)
      return t.fail(JSON.stringify({ counters, calls, says, explanation }))
    if (new Set(happened).size !== happened.length) return t.fail('a call counts once')
  }
  t.pass()
})
