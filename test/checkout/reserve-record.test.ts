/** When a hold goes on record: along with its order, or on its own, and never under a lease that was let go before. */
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { createCheckouts, type Checkouts } from '../../src/db/checkouts.ts'
import { connectPool, type Pool } from '../../src/db/pool.ts'
import type { CheckoutRun } from '../../src/processors/checkout-run.ts'
import { recordOf } from '../../src/processors/reserve-record.ts'
import { StockFault } from '../../src/stock/stock-call.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createDatabase, query } from '../support/database.ts'
import { opened } from '../support/intent.ts'
import { until } from '../support/until.ts'

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

/** A checkout that Catalog has just held a piece for. `log` says which statements were sent, and when the leases were let go. */
async function reserved(name: string, { contested = false, isPatient = true } = {}) {
  const log: string[] = []
  const { orderId } = await opened(pool, { productId: 1, qty: 1, userEmail: `${name}@example.com` })
  const verbs = createCheckouts(pool)
  const checkouts: Checkouts = {
    ...verbs,
    recordReserved(attempt, hold) {
      log.push('record')
      return verbs.recordReserved(attempt, hold)
    },
    complete(attempt, hold) {
      log.push(hold ? 'complete with hold' : 'complete')
      return verbs.complete(attempt, hold)
    },
  }
  const clock = { now: () => 0, wallTime: () => Date.now(), sleep: (ms: number) => (isPatient ? new Promise<never>(() => {}) : sleep(ms)) }
  const run = { orderId, attempt: 1, recoveryPoint: 'intent', reserveCall: 'unknown' } as CheckoutRun
  const call = {
    answer: 'done' as const,
    contested: () => contested,
    async record(write: (epochs: { productId: number; epoch: number }[]) => Promise<boolean>) {
      const counts = await write([{ productId: 1, epoch: 1 }])
      if (!counts) throw new StockFault('the record was refused', { settled: true, sent: true })
      log.push('leases let go')
    },
  }
  return { run, record: recordOf(run, call, checkouts, clock), log, checkouts: verbs, orderId }
}

const row = async (orderId: number) =>
  (await query(database.dsn, 'select state, recovery_point from order_service.checkouts where order_id = $1', [orderId]))[0]

test('a completion that comes at once takes the record along, and the leases last until it stands', async (t) => {
  const { run, record, log, orderId } = await reserved('at-once')
  t.like(await record.complete(), { state: 'CREATED', orderId })
  t.deepEqual(log, ['complete with hold', 'leases let go'])
  t.like(run, { recoveryPoint: 'reserve-stock', reserveCall: 'settled' })
})

test('where others want the products the record does not wait, nor where the completion is long in coming', async (t) => {
  const wanted = await reserved('wanted', { contested: true })
  t.deepEqual(wanted.log, ['record'])
  await wanted.record.written()
  t.deepEqual(await row(wanted.orderId), { state: 'OPEN', recovery_point: 'reserve-stock' })

  const slow = await reserved('slow', { isPatient: false })
  await until(
    () => slow.log,
    (log) => log.includes('leases let go'),
  )
  t.like(await slow.record.complete(), { state: 'CREATED' })
  t.deepEqual(slow.log, ['record', 'leases let go', 'complete'])
})

test('a completion that is refused for its deadline leaves the hold on record, for whoever cancels', async (t) => {
  const { record, checkouts, orderId } = await reserved('late')
  await query(database.dsn, `update order_service.checkouts set deadline_at = now() - interval '1 ms' where order_id = $1`, [orderId])
  t.is(await record.complete(), undefined)
  t.deepEqual(await row(orderId), { state: 'OPEN', recovery_point: 'reserve-stock' })
  t.deepEqual((await checkouts.cancel(orderId, { status: 503, detail: 'too late' })).freed, [1])
})

test('a completion of a checkout that was cancelled meanwhile is a reserve that may not count', async (t) => {
  const { run, record, checkouts, orderId } = await reserved('cancelled')
  t.deepEqual((await checkouts.cancel(orderId, { status: 503, detail: 'too late' })).freed, [])
  await t.throwsAsync(record.complete(), { name: 'StepFault', message: 'the record was refused' })
  t.like(run, { recoveryPoint: 'intent', reserveCall: 'settled' })
  t.like(await row(orderId), { state: 'CANCELLED' })
})
