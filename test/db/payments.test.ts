import test from 'ava'
import { NotChecked } from '../../src/stock/check.ts'
import { type Harness, openHarness, type Payment, type TestWorker } from '../stock/harness.ts'

let harness: Harness
test.before(async () => {
  harness = await openHarness({ budgetMs: 60_000 })
})
test.after.always(() => harness?.close())

const UNITS = 1_000_000
const ROUNDS = 8
const AT_ONCE = 8

/** Rows that payments change all the while may be read in vain: the job of the product comes again, and here the end of the test does. */
const reconcileNow = async ({ stock }: TestWorker, productId: number): Promise<'done'> => {
  await stock.reconcile(productId).catch((error: unknown) => {
    if (!(error instanceof NotChecked)) throw error
  })
  return 'done'
}

test('payments, holds on record, cancelled checkouts and reconciling of the same products never wait for each other in a circle', async (t) => {
  const products: number[] = []
  for (let i = 0; i < 5; i += 1) products.push(await harness.product({ inStock: UNITS }))
  // Several workers, as several processes have them: batches of one would not meet.
  const workers = ['one', 'two', 'three'].map((by) => harness.worker(by))
  const carts = [products, products.slice(0, 2), products.slice(1, 4), [products[4]!, products[0]!]]
  const linesOf = (i: number) => carts[i % carts.length]!.map((productId) => ({ productId, qty: 1 }))
  const sold = new Map<number, number>(products.map((id) => [id, 0]))
  const kept = new Map<number, number>(products.map((id) => [id, 0]))

  for (let round = 0; round < ROUNDS; round += 1) {
    const payments: Payment[] = []
    for (let i = 0; i < AT_ONCE; i += 1) {
      for (const { productId } of linesOf(i)) {
        harness.catalog.inventory.get(productId)!.reserved += 1
        sold.set(productId, sold.get(productId)! + 1)
      }
      payments.push(await harness.payment(await harness.order(...linesOf(i))))
    }
    const results = await Promise.all([
      ...payments.map((payment, i) => workers[i % workers.length]!.commit(payment)),
      ...Array.from({ length: AT_ONCE }, async (_, i) => {
        const { reserve, checkouts } = workers[i % workers.length]!
        const checkout = await harness.checkout(...linesOf(i))
        const isKept = i % 2 === 0
        if (isKept) for (const { productId } of checkout.products) kept.set(productId, kept.get(productId)! + 1)
        if (isKept) return reserve(checkout)
        const reserved = reserve(checkout).catch(() => 'ended meanwhile')
        const [cancelled] = await Promise.all([checkouts.cancel(checkout.id, { status: 503, detail: 'too late' }), reserved])
        return cancelled.won ? 'done' : 'not cancelled'
      }),
      ...workers.map((worker, i) => reconcileNow(worker, products[i]!)),
    ])
    t.deepEqual(new Set(results), new Set(['done']))
  }
  for (const id of products) while (await workers[0]!.stock.reconcile(id)) t.log('once more', id)

  for (const id of products) {
    const [units, holds] = [UNITS - sold.get(id)!, kept.get(id)!]
    t.like(await harness.row(id), { expected: units, held: holds, hold: 0, stock: 0, foreign: 0 })
    t.deepEqual(harness.catalog.inventory.get(id), { inStock: units, reserved: holds })
  }
  t.is(harness.catalog.overlaps, 0)
  const [{ deadlocks }] = (await harness.ask<{ deadlocks: number }>(
    'select deadlocks::int from pg_stat_database where datname = current_database()',
  )) as [{ deadlocks: number }]
  t.is(deadlocks, 0)
})
