import test from 'ava'
import { createCheckouts } from '../../src/db/checkouts.ts'
import { createIntents } from '../../src/db/intents.ts'
import { connectPool, type Pool } from '../../src/db/pool.ts'
import type { Intent } from '../../src/model.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createDatabase, query } from '../support/database.ts'
import { demoAddress } from '../support/shop.ts'

let database: Awaited<ReturnType<typeof createDatabase>>
let pool: Pool
test.before(async () => {
  database = await createDatabase()
  pool = await connectPool(database.dsn, { size: 4, logger: createLogger('silent') })
  await query(database.dsn, 'insert into order_service.products (product_id, drift, predicted_stock) values (1, 0, 100)')
})
test.after.always(async () => {
  await pool?.end()
  await database?.drop()
})

let customers = 0
function intent(changes: Partial<Intent> = {}): Intent {
  customers += 1
  const lines = [{ product_id: 1, qty: 2, unit_price_cents: 100, title_snapshot: 'Air Zoom' }]
  const common = { requestHash: 'hash', lines, address: demoAddress, totalCents: 200, budgetMs: 8000 }
  return { userEmail: `c${customers}@example.com`, idempotencyKey: 'key', ...common, ...changes }
}

async function begun() {
  const intended = await createIntents(pool).intend(intent())
  if (intended.claim !== 'new') throw new Error('not a new one')
  return { orderId: intended.orderId, attempt: 1, epochs: intended.products.map(({ productId, epoch }) => ({ productId, epoch: epoch! })) }
}

test('an address with a NUL in it fails alone among 60 good intents of one batch', async (t) => {
  const intents = createIntents(pool)
  const bad = intent({ address: { ...demoAddress, city: 'Dub\0lin' } })
  const all = [...Array.from({ length: 30 }, () => intent()), bad, ...Array.from({ length: 30 }, () => intent())]
  const settled = await Promise.allSettled(all.map((one) => intents.intend(one)))
  t.deepEqual(
    settled.flatMap(({ status }, i) => (status === 'rejected' ? [i] : [])),
    [30],
  )
})

test('of two intents with one key in one batch one is new, the other is told of it', async (t) => {
  const intents = createIntents(pool)
  const first = intent()
  const [a, b] = await Promise.all([intents.intend(first), intents.intend({ ...first, requestHash: 'other' })])
  t.is(a!.claim, 'new')
  t.like(b, { claim: 'taken', orderId: a!.orderId, requestHash: 'hash', state: 'OPEN' })
})

test('a reserve goes on record once: not under an epoch that was raised, nor for an attempt that was overtaken', async (t) => {
  const checkouts = createCheckouts(pool)
  const { epochs, ...attempt } = await begun()
  t.false(await checkouts.recordReserved(attempt, [{ productId: 1, epoch: epochs[0]!.epoch + 1 }]))
  t.true(await checkouts.recordReserved(attempt, epochs))
  const other = await begun()
  const resumed = await checkouts.resume(other.orderId)
  t.like(resumed, { attempt: 2, recoveryPoint: 'intent', shipmentCall: 'unknown' })
  t.false(await checkouts.recordReserved({ orderId: other.orderId, attempt: 1 }, other.epochs))
  const doubts = () =>
    query(database.dsn, 'select verb, qty, attempt from order_service.doubts where order_id = $1 order by attempt', [other.orderId])
  t.deepEqual(await doubts(), [{ verb: 'reserve', qty: 2, attempt: 1 }])
  await query(database.dsn, 'delete from order_service.doubts')
})

test('a hold goes on record along with its order: not under an epoch that was raised, and an order needs the one or the other', async (t) => {
  const checkouts = createCheckouts(pool)
  const { epochs, ...attempt } = await begun()
  t.is(await checkouts.complete(attempt), undefined)
  t.is(await checkouts.complete(attempt, [{ productId: 1, epoch: epochs[0]!.epoch + 1 }]), undefined)
  t.is(await checkouts.complete({ ...attempt, attempt: 2 }, epochs), undefined)
  t.like(await checkouts.complete(attempt, epochs), { state: 'CREATED' })
  t.deepEqual(
    await query(database.dsn, 'select state, recovery_point, reserve_call from order_service.checkouts where order_id = $1', [
      attempt.orderId,
    ]),
    [{ state: 'CREATED', recovery_point: 'reserve-stock', reserve_call: 'settled' }],
  )
  const [mended, other] = await Promise.all([begun(), begun()])
  const results = await Promise.all([
    checkouts.complete({ orderId: mended.orderId, attempt: 1 }, [{ productId: 1, epoch: epochs[0]!.epoch - 1 }]),
    checkouts.complete({ orderId: other.orderId, attempt: 1 }, epochs),
  ])
  t.deepEqual(
    results.map((result) => result?.orderId),
    [undefined, other.orderId],
  )
})

test('of completing and cancelling exactly one wins, and a cancelled hold is the mender’s', async (t) => {
  const checkouts = createCheckouts(pool)
  const results = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const { epochs, ...attempt } = await begun()
      if (!(await checkouts.recordReserved(attempt, epochs))) throw new Error('not on record')
      const [created, { won, outcome, freed }] = await Promise.all([
        checkouts.complete(attempt),
        checkouts.cancel(attempt.orderId, { status: 503, detail: 'too late' }),
      ])
      return { created: created !== undefined, won, state: outcome.state, freed }
    }),
  )
  for (const { created, won, state, freed } of results) {
    t.not(created, won)
    t.is(state, created ? 'CREATED' : 'CANCELLED')
    t.deepEqual(freed, created ? [] : [1])
  }
  const cancelled = results.filter(({ won }) => won).length
  t.deepEqual(await query(database.dsn, 'select extra_hold from order_service.products'), [{ extra_hold: String(cancelled * 2) }])
  await query(database.dsn, 'update order_service.products set extra_hold = 0')
})

test('nothing becomes an order after its deadline', async (t) => {
  const checkouts = createCheckouts(pool)
  const { epochs, ...attempt } = await begun()
  await checkouts.recordReserved(attempt, epochs)
  await query(database.dsn, `update order_service.checkouts set deadline_at = now() - interval '1 ms' where order_id = $1`, [
    attempt.orderId,
  ])
  t.is(await checkouts.complete(attempt), undefined)
})
