/**
 * The tables in memory do what PostgreSQL does: the same statements, said to both in a random order, get the same answers and leave the
 * same rows, also while somebody keeps some of the rows locked. Time moves on both sides only where the script moves it.
 */
import test from 'ava'
import { Client } from 'pg'
import type { Clock } from '../../../src/clock.ts'
import { recordFailure, resume } from '../../../src/db/checkout-attempts.ts'
import { completeAll } from '../../../src/db/complete-checkouts.ts'
import { endAll } from '../../../src/db/end-checkouts.ts'
import { isOpen, readOutcome } from '../../../src/db/read-checkouts.ts'
import { recordHolds } from '../../../src/db/record-holds.ts'
import { receive } from '../../../src/db/inbox.ts'
import { createIntents } from '../../../src/db/intents.ts'
import { LOCKED, untilUnlocked } from '../../../src/db/locked.ts'
import { createPaymentEvents } from '../../../src/db/payment-events.ts'
import { createPayments, recordPaid } from '../../../src/db/payments.ts'
import { connectPool, type Pool } from '../../../src/db/pool.ts'
import { createProducts } from '../../../src/db/products.ts'
import { createRescue } from '../../../src/db/rescue.ts'
import type { WantedCall } from '../../../src/db/acquire-calls.ts'
import { explain } from '../../../src/stock/explain.ts'
import { createLogger } from '../../../src/telemetry/logger.ts'
import { hostClock } from '../../support/clock.ts'
import { createDatabase, query } from '../../support/database.ts'
import { demoAddress } from '../../support/shop.ts'
import type { Asked } from './ask.ts'
import { type OrderStatements, orderStatements, TOTAL_CENTS } from './order-statements.ts'
import { type StockStatements, stockStatements } from './stock-statements.ts'
import { createTables, type Locked, type Tables } from './tables.ts'
import { type Chance, createWorld } from './world.ts'

type Statements = Asked<OrderStatements> & Asked<StockStatements>
type Table = Parameters<Locked>[0]

interface Side {
  say: Statements
  lock(table: Table, id: number): Promise<void>
  unlock(): Promise<void>
  /** All times were so many ms earlier. */
  goOn(ms: number): Promise<void>
  /** Every row, without its own id and times. */
  dump(): Promise<Record<string, unknown>>
}

const PRODUCTS = [1, 2, 3]
const LEASE_MS = 7500
const BY = ['one', 'two']
const rejection = { status: 503, detail: 'The checkout took too long' }
/** A row that is locked stays so for as long as a statement is repeated: time jumps. */
const impatient = (): Pick<Clock, 'now' | 'sleep'> => {
  let now = 0
  return { now: () => now, sleep: async () => void (now += 60_000) }
}

interface InMemory extends Side {
  tables: Tables
  locked: Set<string>
}

function inMemory(): InMemory {
  let now = 1_000_000_000
  const locked = new Set<string>()
  const tables = createTables(() => now, { isLocked: (table, id) => locked.has(`${table} ${id}`) })
  const orders = orderStatements(tables)
  const statements = { ...orders, ...stockStatements(tables, orders) }
  const say = Object.fromEntries(
    Object.entries(statements).map(([name, verb]) => [name, async (...input: never[]) => (verb as (...all: never[]) => unknown)(...input)]),
  )
  return {
    tables,
    locked,
    say: {
      ...(say as unknown as Statements),
      resumePayment: (eventId) => untilUnlocked(impatient(), 'event', async () => orders.resumePayment(eventId)),
    },
    lock: async (table, id) => void locked.add(`${table} ${id}`),
    unlock: async () => locked.clear(),
    goOn: async (ms) => void (now += ms),
    dump: async () => ({
      products: [...tables.products]
        .map(([id, row]) => {
          const { call, isReconciling, expectedStock, held, foreignHolds, holdCorrection, stockCorrection, wantedBy } = row
          const said = call && { id: call.id, verb: call.verb, qty: call.qty, by: call.by }
          return { id, expectedStock, held, foreignHolds, holdCorrection, stockCorrection, call: said, wantedBy, isReconciling }
        })
        .sort((a, b) => a.id - b.id),
      changes: tables.changes.map((row) => `${row.productId} ${row.callId} ${row.held} ${row.expectedStock}`).sort(),
      unanswered: tables.unanswered.map((row) => `${row.callId} ${row.productId} ${row.verb} ${row.qty} ${row.found}`).sort(),
      reconciliations: tables.reconciliations
        .map((row) => `${row.productId} ${row.verb} ${row.qty} ${row.result} ${row.reason} ${row.callId}`)
        .sort(),
      ambiguities: tables.ambiguities.map((row) => `${row.productId} ${row.tooMany} ${row.tooFew} ${row.explanation}`).sort(),
      checkouts: [...tables.checkouts].map(
        ([id, row]) => `${id} ${row.state} ${row.recoveryPoint} ${row.attempt} ${row.callId} ${row.shipmentCall}`,
      ),
      orders: [...tables.orders].map(([id, { status }]) => `${id} ${status}`).sort(),
      events: [...tables.events].map(([id, row]) => `${id} ${row.state} ${row.result} ${row.attempt} ${row.callId}`),
    }),
  }
}

const TABLE: Record<Table, { name: string; id: string }> = {
  products: { name: 'order_service.products', id: 'product_id' },
  checkouts: { name: 'order_service.checkouts', id: 'order_id' },
  orders: { name: 'public.orders', id: 'id' },
  events: { name: 'order_service.payment_events', id: 'id' },
}
/** What the tables say of time. */
const TIMES = {
  products: ['call_expires_at', 'wanted_until'],
  unanswered_calls: ['since'],
  checkouts: ['deadline_at', 'updated_at'],
  payment_events: ['touched_at', 'waiting_since'],
}

async function inPostgres(pool: Pool, dsn: string): Promise<Side> {
  const clock: Clock = { now: () => performance.now(), databaseTime: () => Date.now(), sleep: async () => {}, turn: async () => {} }
  const payments = createPayments(pool, { clock, emitPaid: false, relay: undefined })
  const rescue = createRescue(pool, clock)
  const locker = new Client({ connectionString: dsn })
  await locker.connect()
  await locker.query('begin')
  const started = await query<{ at: string }>(dsn, 'select clock_timestamp()::text as at')
  let at = started[0]!.at
  const locks: string[] = []
  let intended = 0
  let received = 0
  const productsOf = (by: string) => createProducts(pool, { by, leaseMs: LEASE_MS, emitPaid: false })
  const stock = productsOf('')
  const events = () => createPaymentEvents(pool, { ...clock, ...impatient() })
  const columns = (text: string) => query<{ row: string }>(dsn, text).then((rows) => rows.map(({ row }) => row).sort())

  /** What has passed since the script last moved time has not, and `ms` more have. */
  async function goOn(ms: number): Promise<void> {
    await locker.query('rollback')
    const [row] = await query<{ at: string }>(dsn, 'select clock_timestamp()::text as at')
    for (const [table, names] of Object.entries(TIMES)) {
      const shift = `($1::timestamptz - $2::timestamptz - $3::float8 * interval '1 ms')`
      const set = names.map((name) => `${name} = ${name} + ${shift}`).join(', ')
      await query(dsn, `update order_service.${table} set ${set}`, [row!.at, at, ms])
    }
    // A call written in this step came at its end, as in memory. Otherwise one of a later step might seem older.
    await query(dsn, `update order_service.unanswered_calls set since = least(since, $1::timestamptz - $2::float8 * interval '1 ms')`, [
      row!.at,
      ms,
    ])
    at = row!.at
    await locker.query('begin')
    for (const text of locks) await locker.query(text)
  }

  const say: Statements = {
    ...stock,
    ...rescue,
    acquireCalls: (calls, { by }) => productsOf(by).acquireCalls(calls),
    readOutcome: (id) => readOutcome(pool, id),
    isOpen: (attempt) => isOpen(pool, attempt),
    resume: (id) => resume(pool, id),
    recordHolds: (calls, isPatient) => recordHolds(pool, calls, isPatient),
    complete: async (completion) => (await completeAll(pool, [completion], false))[0],
    end: async (ending) => (await endAll(pool, [ending]))[0],
    recordFailure: (attempt, fault) => recordFailure(pool, attempt, fault),
    recordPaid: (calls, isPatient) => recordPaid(pool, calls, { isPatient, emitPaid: false, notify: false }),
    read: payments.read,
    resumePayment: (eventId) => events().resume(eventId),
    recordPaymentFailure: (attempt) => events().recordFailure(attempt, 'a fault'),
    recordApplied: (attempt, result) => events().recordApplied(attempt, result),
    deadLetter: (attempt) => events().deadLetter(attempt, 'catalog-refused', 'refused'),
    async intend(lines, { budgetMs, callId, leaseMs }) {
      intended += 1
      const intents = createIntents(pool, { callIds: async () => callId, leaseMs, clock: hostClock, duplicateWindowMs: 0 })
      const intent = await intents.intend({
        userEmail: `c${intended}@example.com`,
        idempotencyKey: `key ${intended}`,
        requestHash: 'hash',
        lines: lines.map(({ productId, qty }) => ({ product_id: productId, qty, unit_price_cents: 1, title_snapshot: 'Air Zoom' })),
        address: demoAddress,
        totalCents: TOTAL_CENTS,
        budgetMs,
      })
      if (intent.claim !== 'new') throw new Error('every intent is a new one')
      const { orderId, deadlineAt, products, lease } = intent
      return { orderId, deadline: deadlineAt.getTime(), products, lease }
    },
    async receive(orderId) {
      received += 1
      const event = {
        type: 'payment.succeeded' as const,
        orderId,
        amountCents: TOTAL_CENTS,
        currency: 'USD',
        provider: null,
        paymentId: null,
      }
      const message = { offset: BigInt(received), key: null, value: Buffer.from('{}'), headers: [], sentAt: new Date() }
      const one = { ...message, read: 'event' as const, event: { ...event, details: {} }, identity: `event ${received}` }
      const { waiting } = await receive(pool, { topic: 'payment.events', partition: 0 }, [one])
      return { eventId: waiting[0]!.eventId, attempt: waiting[0]!.attempt! }
    },
  }

  return {
    say,
    async lock(table, id) {
      const { name, id: column } = TABLE[table]
      locks.push(`select from ${name} where ${column} = ${id} for update`)
      await locker.query(locks.at(-1)!)
    },
    async unlock() {
      locks.length = 0
      await locker.query('rollback')
      await locker.query('begin')
    },
    goOn,
    dump: async () => ({
      products: (
        await query<{ row: unknown }>(
          dsn,
          `select jsonb_build_object('id', product_id, 'expectedStock', expected_stock, 'held', held, 'foreignHolds', foreign_holds,
            'holdCorrection', hold_correction, 'stockCorrection', stock_correction, 'wantedBy', wanted_by, 'isReconciling', reconciling_since is not null,
            'call', case when call_id is not null then jsonb_build_object('id', call_id, 'verb', call_verb, 'qty', call_qty, 'by', call_by) end) as row
          from order_service.products order by product_id`,
        )
      ).map(({ row }) => row),
      changes: await columns(
        `select concat_ws(' ', product_id, coalesce(call_id::text, 'null'), held, expected_stock) as row from order_service.product_changes`,
      ),
      unanswered: await columns(
        `select concat_ws(' ', call_id, product_id, verb, qty, coalesce(found, 'null')) as row from order_service.unanswered_calls`,
      ),
      reconciliations:
        await columns(`select concat_ws(' ', product_id, verb, qty, result, coalesce(reason, 'null'), coalesce(call_id::text, 'null')) as row
        from order_service.reconciliations`),
      ambiguities: await columns(`select concat_ws(' ', product_id, too_many, too_few, explanation) as row from order_service.ambiguities`),
      checkouts: (
        await query<{ row: string }>(
          dsn,
          `select concat_ws(' ', order_id, state, recovery_point, attempt, call_id, shipment_call) as row from order_service.checkouts order by order_id`,
        )
      ).map(({ row }) => row),
      orders: await columns(`select concat_ws(' ', id, status) as row from public.orders`),
      events: (
        await query<{ row: string }>(
          dsn,
          `select concat_ws(' ', id, state, coalesce(result, 'null'), attempt, coalesce(call_id::text, 'null')) as row
          from order_service.payment_events order by id`,
        )
      ).map(({ row }) => row),
    }),
  }
}

/** What both sides have to answer: no times, no order where there is none. */
function plain(answer: unknown): unknown {
  if (answer === LOCKED) return 'locked'
  return JSON.parse(
    JSON.stringify(answer ?? null, (key, value: unknown) => {
      if (['expiresAt', 'deadline', 'sentAt', 'waitedMs'].includes(key)) return value === undefined ? value : 'a time'
      const isSet = Array.isArray(value) && ['toReconcile', 'orderIds', 'eventIds', 'missedProducts', 'checks', 'unknown'].includes(key)
      return isSet ? [...(value as number[])].sort((a, b) => a - b) : value
    }),
  )
}

interface Step {
  name: string
  run(side: Side): Promise<unknown>
}

/** What was once called for, so that late records of it can be made. */
interface Called extends WantedCall {
  by: string
}

function nextStep(chance: Chance, { tables, locked }: InMemory, calls: Called[], nextCallId: () => number): Step {
  const id = chance.pick(PRODUCTS)
  const by = chance.pick(BY)
  const ids = chance.happens(0.3) ? [...new Set([id, chance.pick(PRODUCTS)])].sort((a, b) => a - b) : [id]
  const lines = ids.map((productId) => ({ productId, qty: chance.pick([1, 1, 2]) }))
  const row = tables.products.get(id)
  const callOf = () => {
    const current = row?.call && calls.filter((call) => call.callId === row.call!.id)
    return current?.length && chance.happens(0.75) ? current[0] : calls.length > 0 ? chance.pick(calls.slice(-12)) : undefined
  }
  const lastOf = (map: Map<number, unknown>) => (map.size === 0 ? 1 : Math.max(1, map.size - chance.below(8)))
  const orderId = lastOf(tables.checkouts)
  const attempt = (tables.checkouts.get(orderId)?.attempt ?? 1) - (chance.happens(0.15) ? 1 : 0)
  const eventId = lastOf(tables.events)
  const driven = { eventId, attempt: (tables.events.get(eventId)?.attempt ?? 1) - (chance.happens(0.15) ? 1 : 0) }
  const lease = () => ({ productId: id, callId: row?.call && chance.happens(0.9) ? row.call.id : 1 })
  const step = (name: string, run: Step['run']): Step => ({ name, run })

  function wanted(verb: WantedCall['verb'], productIds: readonly number[], holds?: number): WantedCall {
    const isSame = (items: readonly { productId: number }[]) => items.map((item) => item.productId).join() === productIds.join()
    const members =
      verb === 'check'
        ? []
        : verb === 'reserve'
          ? [...tables.checkouts]
              .filter(([, one]) => isSame(one.lines))
              .map(([one, { attempt: tries, lines: products }]) => ({ id: one, attempt: tries, products }))
          : [...tables.events]
              .filter(([, one]) => isSame(tables.orders.get(one.orderId)?.items ?? []))
              .map(([one, { attempt: tries, orderId: order }]) => ({ id: one, attempt: tries, products: tables.orders.get(order)!.items }))
    const some = members.slice(-6).filter(() => chance.happens(0.7))
    // Two attempts at one, and one of an attempt that is over.
    const also = some.length > 0 && chance.happens(0.15) ? [{ ...some[0]!, attempt: some[0]!.attempt - 1 }] : []
    return { callId: nextCallId(), verb, productIds, members: [...some, ...also], holds, more: chance.happens(0.2) }
  }

  function acquireCalls(): Step {
    const isCommit = chance.happens(0.4)
    const verb = () => (isCommit ? 'commit' : chance.pick(['reserve', 'reserve', 'reserve', 'check'] as const))
    const holds = row?.call && chance.happens(0.3) ? row.call.id : undefined
    const asked = [wanted(verb(), holds ? (calls.find((call) => call.callId === holds)?.productIds ?? ids) : ids, holds)]
    const other = PRODUCTS.find((one) => !asked[0]!.productIds.includes(one))
    if (other !== undefined && chance.happens(0.4)) asked.push(wanted(verb(), [other]))
    calls.push(...asked.map((call) => ({ ...call, by })))
    return step(`acquireCalls ${JSON.stringify(asked)} by ${by}`, ({ say }) => say.acquireCalls(asked, { by, leaseMs: LEASE_MS }))
  }

  function record(): Step {
    const call = callOf()
    if (!call) return step('nothing', async () => undefined)
    const { callId, productIds } = call
    const isPatient = chance.happens(0.5)
    if (call.verb === 'commit' || (call.verb === 'check' && chance.happens(0.3))) {
      const inside = [...tables.events].filter(([, event]) => event.callId === callId || chance.happens(0.05))
      const members = inside
        .map(([one, event]) => ({ eventId: one, products: tables.orders.get(event.orderId)?.items ?? [] }))
        .filter(() => chance.happens(0.9))
      return step(`recordPaid ${callId} ${JSON.stringify(members)}`, ({ say }) =>
        say.recordPaid([{ callId, productIds, members }], isPatient),
      )
    }
    const inside = [...tables.checkouts].filter(([, one]) => one.callId === callId || chance.happens(0.05))
    const members = inside.map(([one, { lines: products }]) => ({ orderId: one, products })).filter(() => chance.happens(0.9))
    return step(`recordHolds ${callId} ${JSON.stringify(members)}`, ({ say }) =>
      say.recordHolds([{ callId, productIds, members }], isPatient),
    )
  }

  function read(): Step {
    const of = lease()
    const off = { hold: chance.pick([-2, -1, 0, 0, 0, 1, 2]), stock: chance.pick([-2, -1, 0, 0, 1, 2]) }
    return step(`read ${JSON.stringify(of)}`, async ({ say }) => {
      const seen = await say.readProduct(of)
      if (!seen) return seen
      const { expectedStock, stockCorrection, held, foreignHolds, holdCorrection } = seen.row
      const happened = seen.calls.filter((_, i) => i % 2 === 0)
      const effect = { reserve: 1, release: -1, commit: -1, restock: 0 }
      const hold = off.hold === 2 ? happened.reduce((sum, call) => sum + effect[call.verb] * call.qty, 0) : off.hold
      const says = { inStock: (expectedStock ?? 10) + stockCorrection + off.stock, reserved: held + foreignHolds + holdCorrection + hold }
      const explanation = explain(seen.row, seen.calls, says)
      return [seen, explanation, await say.recordExplanation(of, seen, explanation)]
    })
  }

  function moveOn(): Step {
    const ms = chance.pick([417, 633, 2011, 7613, 7613, 720_017]) // never just as long as anything lasts
    return step(`${ms} ms pass`, (side) => side.goOn(ms))
  }

  function lock(): Step {
    const table = chance.pick(['products', 'products', 'checkouts', 'orders', 'events'] as const)
    const which = table === 'products' ? id : table === 'events' ? eventId : orderId
    return step(`lock ${table} ${which}`, async (side) => (tables[table].has(which) ? side.lock(table, which) : undefined))
  }

  /** A checkout on its way to a payment, in one step: by chance alone few come so far. */
  function buy(): Step {
    const callId = nextCallId()
    calls.push({ callId, verb: 'reserve', productIds: ids, members: [], more: false, by })
    const withHold = chance.happens(0.5)
    return step(`buy ${JSON.stringify(lines)}`, async ({ say }) => {
      const { orderId: fresh, lease: got } = await say.intend(lines, { budgetMs: 1_000_000_000, callId, leaseMs: LEASE_MS })
      if (!got) return 'no lease'
      const call = { callId, productIds: ids, members: [{ orderId: fresh, products: lines }] }
      const recorded = withHold ? undefined : await say.recordHolds([call], true)
      const created = await say.complete({ orderId: fresh, attempt: 1, hold: withHold ? { callId, products: lines } : undefined })
      return [fresh, recorded === LOCKED ? 'locked' : recorded, created === LOCKED ? 'locked' : created, await say.receive(fresh)]
    })
  }

  /** One payment on its way to its order, in one step. */
  function pay(): Step {
    const waiting = [...tables.events].filter(([, event]) => event.state === 'WAITING' && tables.orders.has(event.orderId))
    if (waiting.length === 0) return step('nothing', async () => undefined)
    const [one, { orderId: order, attempt: tries }] = chance.pick(waiting)
    const products = tables.orders.get(order)!.items
    const productIds = products.map(({ productId }) => productId)
    const call: WantedCall = {
      callId: nextCallId(),
      verb: 'commit',
      productIds,
      members: [{ id: one, attempt: tries, products }],
      more: false,
    }
    calls.push({ ...call, by })
    return step(`pay ${one}`, async ({ say }) => {
      const [taken] = await say.acquireCalls([call], { by, leaseMs: LEASE_MS })
      if (!taken!.isAcquired || taken!.checks.length > 0) return taken
      const recorded = await say.recordPaid([{ callId: call.callId, productIds, members: [{ eventId: one, products }] }], true)
      return [taken, recorded === LOCKED ? 'locked' : recorded]
    })
  }

  const pick = chance.below(100)
  if (pick < 12) {
    const callId = nextCallId()
    calls.push({ callId, verb: 'reserve', productIds: ids, members: [], more: false, by })
    const budgetMs = chance.pick([1_000_000_000, 1_000_000_000, 900]) // over after 417 and 633 ms, also in a slow step
    return step(`intend ${JSON.stringify(lines)}`, ({ say }) => say.intend(lines, { budgetMs, callId, leaseMs: LEASE_MS }))
  }
  if (pick < 20) return buy()
  if (pick < 36) return acquireCalls()
  if (pick < 48) return record()
  if (pick < 56) return read()
  if (pick < 60) return moveOn()
  if (pick < 63) return lock()
  if (pick < 67) return step('unlock', (side) => side.unlock())
  const fault = {
    step: 'reserve-stock' as const,
    error: 'a fault',
    ms: 1,
    fault: undefined,
    shipmentCall: chance.pick(['unsent', 'answered', 'unknown'] as const),
  }
  const call = callOf()
  const next = chance.happens(0.7)
    ? { callId: nextCallId(), verb: chance.pick(['check', 'restock', 'release', 'commit'] as const), qty: 1 + chance.below(3) }
    : undefined
  if (next && call) calls.push({ ...call, callId: next.callId, verb: next.verb === 'commit' ? 'commit' : 'check' })
  const isUnanswered = chance.happens(0.7)
  const age = chance.pick([150, 1057, 1_000_000_000])
  const of = lease()
  const isEventFree = !locked.has(`events ${eventId}`)
  const correction = { callId: 1, verb: 'restock' as const, qty: 2, reason: 'stock-missing', result: 'done' as const }
  const withCall = call ? { callId: call.callId, productIds: call.productIds } : { callId: 1, productIds: ids }
  const hold = chance.happens(0.4)
    ? { callId: tables.checkouts.get(orderId)?.callId ?? 1, products: tables.checkouts.get(orderId)?.lines ?? [] }
    : undefined
  if (pick < 76)
    return step(`continueCall ${JSON.stringify([withCall, next, isUnanswered])}`, async ({ say }) => {
      const options = next ? { next, isUnanswered, leaseMs: LEASE_MS } : { leaseMs: LEASE_MS }
      return (await say.continueCall(withCall, options)) !== undefined
    })
  if (pick < 82) return pay()
  if (pick < 84) return step(`applyChanges ${id}`, ({ say }) => say.applyChanges(id))
  return chance.pick<Step>([
    step('addProducts', ({ say }) => say.addProducts(ids)),
    step(`releaseCalls ${JSON.stringify(withCall)}`, ({ say }) => say.releaseCalls([withCall])),
    step(`recordAnswered ${JSON.stringify(withCall)}`, ({ say }) => say.recordAnswered(withCall)),
    step('recordCorrection', ({ say }) => say.recordCorrection(id, correction)),
    step('recordSold', ({ say }) => say.recordSold(of)),
    step('needsReconciling', ({ say }) => say.needsReconciling(id)),
    step('productsToReconcile', ({ say }) => say.productsToReconcile()),
    step(`isOpen ${orderId}`, ({ say }) => say.isOpen({ orderId, attempt })),
    step(`readOutcome ${orderId}`, ({ say }) => say.readOutcome(orderId)),
    step(`resume ${orderId}`, ({ say }) => say.resume(orderId)),
    step(`complete ${orderId} ${attempt} ${JSON.stringify(hold)}`, ({ say }) => say.complete({ orderId, attempt, hold })),
    step(`complete ${orderId} ${attempt}`, ({ say }) => say.complete({ orderId, attempt, hold: undefined })),
    step(`end ${orderId} ${attempt}`, ({ say }) => say.end({ orderId, attempt, state: 'CANCELLED', ...rejection })),
    step(`cancel ${orderId}`, ({ say }) => say.end({ orderId, attempt: undefined, state: 'CANCELLED', ...rejection })),
    step(`recordFailure ${orderId}`, ({ say }) => say.recordFailure({ orderId, attempt }, fault)),
    step(`keepAlive ${orderId}`, ({ say }) => say.keepAlive([{ orderId, attempt }])),
    step('strandedCheckouts', ({ say }) => say.strandedCheckouts(age, 5)),
    step('overdueCheckouts', ({ say }) => say.overdueCheckouts(age, 5)),
    step(`receive ${orderId}`, ({ say }) => say.receive(orderId)),
    step(`read event ${eventId}`, ({ say }) => say.read(driven)),
    step(`resumePayment ${eventId}`, ({ say }) => say.resumePayment(eventId).catch((error: Error) => error.name)),
    step(`recordPaymentFailure ${eventId}`, ({ say }) => say.recordPaymentFailure(driven)),
    step(`recordApplied ${eventId}`, async ({ say }) => isEventFree && age === 150 && say.recordApplied(driven, 'already-paid')),
    step(`deadLetter ${eventId}`, async ({ say }) => isEventFree && age === 150 && say.deadLetter(driven)),
    step('strandedPayments', ({ say }) => say.strandedPayments(age, 5)),
  ])
}

for (const seed of [2, 3, 4]) {
  test.serial(`statements said to PostgreSQL and to the tables in memory get one answer, script ${seed}`, async (t) => {
    const database = await createDatabase()
    const pool = await connectPool(database.dsn, { size: 2, logger: createLogger('silent') })
    const memory = inMemory()
    const postgres = await inPostgres(pool, database.dsn)
    const { chance } = createWorld(seed)
    const calls: Called[] = []
    let lastCall = 1000
    const did: string[] = []
    try {
      for (const side of [memory, postgres]) await side.say.addProducts(PRODUCTS.slice(0, 2))
      for (let steps = 0; steps < 600; steps += 1) {
        const step = nextStep(chance, memory, calls, () => (lastCall += 1))
        did.push(step.name)
        const [played, real] = [plain(await step.run(memory)), plain(await step.run(postgres))]
        if (!t.deepEqual(real, played, `step ${steps}: ${step.name}`)) break
        await postgres.goOn(0)
        if (!t.deepEqual(await postgres.dump(), await memory.dump(), `after step ${steps}: ${did.slice(-3).join('\n')}`)) break
      }
      const rows = memory.tables
      const seen = {
        paid: [...rows.orders.values()].some(({ status }) => status === 'PAID'),
        unanswered: rows.unanswered.length > 2,
        happened: rows.unanswered.some(({ found }) => found === 'happened'),
        corrected: rows.reconciliations.length > 5,
      }
      t.deepEqual(seen, { paid: true, unanswered: true, happened: true, corrected: true }, 'the script came to everything')
    } finally {
      await postgres.unlock().catch(() => {})
      await pool.end()
      await database.drop()
    }
  })
}
