/** The tables in memory do what PostgreSQL does: the same verbs, said to both, get the same answers and leave the same rows. */
import test from 'ava'
import { createCheckouts } from '../../../src/db/checkouts.ts'
import { receive } from '../../../src/db/inbox.ts'
import { createIntents } from '../../../src/db/intents.ts'
import { applied, bury, leavePayment, resumePayment, strandedPayments } from '../../../src/db/payment-events.ts'
import { createPayments } from '../../../src/db/payments.ts'
import { connectPool, type Pool } from '../../../src/db/pool.ts'
import { doubtAbandoned, keepAlive, mayHaveCalls, overdueCheckouts, strandedCheckouts } from '../../../src/db/rescue.ts'
import { createStockLedger, type Doubt, type StockLedger } from '../../../src/db/stock-ledger.ts'
import { createLogger } from '../../../src/telemetry/logger.ts'
import { createDatabase, query } from '../../support/database.ts'
import { demoAddress } from '../../support/shop.ts'
import type { Asked } from './ask.ts'
import { playRows, type Rows, TOTAL_CENTS } from './rows.ts'
import { type Chance, createWorld } from './world.ts'

type RowVerbs = Asked<Omit<Rows, 'ledger' | 'checkouts' | 'orders' | 'events' | 'heldOf' | 'unfinished'>>

interface Side {
  rows: RowVerbs
  ledger: StockLedger
  /** Every row, without its own id and times. */
  dump(): Promise<unknown>
}

const PRODUCTS = [1, 2, 3, 4]
const AGES = [0, 1_000_000_000]
const rejection = { status: 503, detail: 'The checkout took too long' }

const inAsync = <Verbs extends object>(verbs: Verbs) =>
  Object.fromEntries(
    Object.entries(verbs).map(([name, verb]) => [name, typeof verb === 'function' ? async (...input: unknown[]) => verb(...input) : verb]),
  )

function inMemory(): Side {
  let now = 1_000_000
  const rows = playRows(() => (now += 10))
  return {
    rows: inAsync(rows) as RowVerbs,
    ledger: inAsync(rows.ledger) as StockLedger,
    dump: async () => ({
      products: [...rows.ledger.tables.products].map(([id, row]) => ({ id, ...row })).sort((a, b) => a.id - b.id),
      doubts: rows.ledger.tables.doubts
        .map(
          ({ productId, verb, qty, orderId, attempt, lookedAt }) =>
            `${productId} ${verb} ${qty} ${orderId} ${attempt} ${lookedAt !== null}`,
        )
        .sort(),
      mendings: rows.ledger.tables.mendings
        .map(({ productId, verb, qty, answer, orderId, why }) => `${productId} ${verb} ${qty} ${answer} ${orderId ?? null} ${why ?? null}`)
        .sort(),
      undecided: rows.ledger.tables.undecided.map(({ productId, why, tooMany, tooFew }) => `${productId} ${why} ${tooMany} ${tooFew}`),
      checkouts: [...rows.checkouts].map(
        ([id, row]) => `${id} ${row.state} ${row.recoveryPoint} ${row.attempt} ${row.reserveCall} ${row.shipmentCall}`,
      ),
      orders: [...rows.orders].map(([id, { status }]) => `${id} ${status}`).sort(),
      events: [...rows.events].map(([id, row]) => `${id} ${row.state} ${row.result} ${row.attempt} ${row.commitCall}`),
    }),
  }
}

function inPostgres(pool: Pool, dsn: string): Side {
  const checkouts = createCheckouts(pool)
  const intents = createIntents(pool)
  const payments = createPayments(pool, { emitPaid: false, relay: undefined })
  const MANY = 1000
  let intended = 0
  let received = 0
  const rowsOf = (text: string) => query<{ row: unknown }>(dsn, text).then((rows) => rows.map(({ row }) => row))
  return {
    ledger: createStockLedger(pool),
    rows: {
      ...checkouts,
      ...payments,
      async intend(lines, budgetMs) {
        intended += 1
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
        return { orderId: intent.orderId, deadline: intent.deadlineAt.getTime(), products: intent.products }
      },
      keepAlive: (attempts) => keepAlive(pool, attempts),
      strandedCheckouts: (untouchedMs) => strandedCheckouts(pool, untouchedMs, MANY),
      overdueCheckouts: (lateMs) => overdueCheckouts(pool, lateMs, MANY),
      doubtAbandoned: (untouchedMs) => doubtAbandoned(pool, untouchedMs, MANY),
      mayHaveCalls: (withinMs) => mayHaveCalls(pool, withinMs),
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
        const source = { topic: 'payment.events', partition: 0 }
        const identity = `event ${received}`
        const { waiting } = await receive(pool, source, [{ ...message, read: 'event', event: { ...event, details: {} }, identity }])
        return { eventId: waiting[0]!.eventId, attempt: waiting[0]!.attempt! }
      },
      resumePayment: (eventId) => resumePayment(pool, eventId),
      leavePayment: (attempt, commitCall) => leavePayment(pool, attempt, { error: 'a fault', commitCall }),
      applied: (attempt, result) => applied(pool, attempt, result),
      bury: (attempt) => bury(pool, attempt, 'catalog-refused', 'refused'),
      strandedPayments: async (untouchedMs) =>
        (await strandedPayments(pool, untouchedMs, MANY)).map(({ eventId, orderId }) => ({ eventId, orderId })),
    },
    dump: async () => ({
      products:
        await rowsOf(`select jsonb_build_object('id', product_id, 'drift', drift, 'predictedStock', predicted_stock, 'extraHold', extra_hold,
        'extraStock', extra_stock, 'epoch', epoch, 'unsellable', unsellable) as row from order_service.products order by product_id`),
      doubts: (
        (await rowsOf(`select concat_ws(' ', product_id, verb, qty, coalesce(order_id::text, 'null'), coalesce(attempt::text, 'null'),
        case when looked_at is null then 'false' else 'true' end) as row from order_service.doubts`)) as string[]
      ).sort(),
      mendings: (
        (await rowsOf(`select concat_ws(' ', product_id, verb, qty, answer, coalesce(order_id::text, 'null'), coalesce(why, 'null')) as row
          from order_service.mendings`)) as string[]
      ).sort(),
      undecided: await rowsOf(`select concat_ws(' ', product_id, why, too_many, too_few) as row from order_service.undecided order by id`),
      checkouts: await rowsOf(`select concat_ws(' ', order_id, state, recovery_point, attempt, reserve_call, shipment_call) as row
        from order_service.checkouts order by order_id`),
      orders: ((await rowsOf(`select concat_ws(' ', id, status) as row from public.orders`)) as string[]).sort(),
      events: await rowsOf(`select concat_ws(' ', id, state, coalesce(result, 'null'), attempt, commit_call) as row
        from order_service.payment_events order by id`),
    }),
  }
}

/** Of what a product's books say, all but times and the numbers of doubts, which PostgreSQL draws for conflicts too. */
const plain = (doubts: readonly Doubt[]) => doubts.map(({ verb, qty }) => `${verb} ${qty}`).sort()

/** One step of the script, with all chance already taken: said to each side in turn. @returns what both have to answer */
type Step = (side: Side) => Promise<unknown>

function nextStep(chance: Chance, orders: number, events: number): Step {
  const id = chance.pick(PRODUCTS)
  const other = chance.pick(PRODUCTS)
  const qty = chance.pick([1, 1, 2])
  const age = chance.pick(AGES)
  const orderId = 1 + chance.below(Math.max(1, orders))
  const attempt = 1 + chance.below(3)
  const tried = { orderId, attempt }
  const eventId = 1 + chance.below(Math.max(1, events))
  const epochShift = chance.pick([0, 0, 0, -1])
  const call = chance.pick(['settled', 'unknown'] as const)
  const verb = chance.pick(['reserve', 'commit', 'restock', 'release'] as const)
  const pieces = chance.pick([-2, -1, 0, 1, 2])
  const lines = [...new Set([id, other])].sort((a, b) => a - b).map((productId) => ({ productId, qty }))
  const budget = chance.pick([1_000_000_000, 1_000_000_000, -1000])

  const epochOf = async ({ ledger }: Side, productId: number) => (await ledger.read(productId)).epoch + epochShift
  const isMet = async ({ ledger }: Side, productId: number) =>
    (await ledger.isAtPeace(productId)) || (await ledger.inDoubt()).includes(productId)
  /** The event's own attempt number, or one before it. */
  const driven = async ({ dump }: Side) => {
    const { events: rows } = (await dump()) as { events: string[] }
    return { eventId, attempt: Number(rows.find((row) => row.startsWith(`${eventId} `))?.split(' ')[3] ?? 1) + epochShift }
  }
  const epochsOf = async (side: Side, items: readonly { productId: number; qty: number }[]) => {
    const asked: { productId: number; qty: number; epoch: number }[] = []
    for (const item of items) asked.push({ ...item, epoch: (await isMet(side, item.productId)) ? await epochOf(side, item.productId) : 1 })
    return asked
  }
  const ifMet =
    (step: Step): Step =>
    async (side) =>
      (await isMet(side, id)) ? step(side) : 'never met'

  return chance.pick<Step>([
    async ({ rows }) => ({ ...(await rows.intend(lines, budget)), deadline: 0 }),
    async ({ rows }) => ({ ...(await rows.intend(lines, 1_000_000_000)), deadline: 0 }),
    async (side) => {
      // A checkout on its way to a payment, in one step: by chance alone few come so far.
      const { orderId: fresh } = await side.rows.intend(lines, 1_000_000_000)
      const recorded = await side.rows.recordReserved({ orderId: fresh, attempt: 1 }, await epochsOf(side, lines))
      const outcome = await side.rows.complete({ orderId: fresh, attempt: 1 })
      const event = await side.rows.receive(fresh)
      return [recorded, outcome, event, age === 0 && (await side.rows.markPaid(event, await epochsOf(side, lines)))]
    },
    ({ rows }) => rows.isOpen(tried),
    ({ rows }) => rows.readOutcome(orderId),
    async ({ rows }) => {
      const resumed = await rows.resume(orderId)
      return resumed && { ...resumed, products: resumed.products.map((product) => [product.productId, product.qty]) }
    },
    async (side) => side.rows.recordReserved(tried, await epochsOf(side, lines)),
    async (side) => side.rows.recordReserved({ orderId, attempt: 1 }, await epochsOf(side, lines)),
    ({ rows }) => rows.complete(tried),
    ({ rows }) => rows.complete({ orderId, attempt: 1 }),
    async (side) => side.rows.complete({ orderId, attempt: 1 }, await epochsOf(side, lines)),
    async ({ rows }) => {
      const ended = await rows.end(tried, 'CANCELLED', rejection)
      return ended && { ...ended, freed: [...ended.freed].sort() }
    },
    async ({ rows }) => {
      if (orders === 0 || age === 0) return 'none'
      const { freed, ...cancelled } = await rows.cancel(orderId, rejection)
      return { ...cancelled, freed: [...freed].sort() }
    },
    ({ rows }) => rows.leave(tried, { step: 'reserve-stock', error: 'a fault', ms: 1, reserveCall: call, shipmentCall: 'unsent' }),
    ({ rows }) => rows.keepAlive([tried]),
    async ({ rows }) => (await rows.strandedCheckouts(age)).map((stranded) => ({ ...stranded, deadline: 0 })),
    ({ rows }) => rows.overdueCheckouts(age),
    async ({ rows }) => (await rows.doubtAbandoned(age)).sort(),
    ({ rows }) => rows.mayHaveCalls(age),
    ({ rows }) => rows.receive(orderId),
    async (side) => {
      const payable = await side.rows.read(await driven(side))
      return payable && { order: payable.order, checkout: payable.checkout, orderId: payable.orderId }
    },
    async (side) => side.rows.isPayable(await driven(side)),
    async (side) => side.rows.markPaid(await driven(side), await epochsOf(side, lines)),
    async (side) => {
      const payable = await side.rows.read(await driven(side))
      return payable?.order && side.rows.markPaid(await driven(side), await epochsOf(side, payable.order.products))
    },
    ({ rows }) => rows.resumePayment(eventId),
    async (side) => side.rows.leavePayment(await driven(side), call),
    async (side) => side.rows.applied(await driven(side), 'already-paid'),
    async (side) => side.rows.bury(await driven(side)),
    ({ rows }) => rows.strandedPayments(age),

    async ({ ledger }) => [...(await ledger.ready([id, other]))].sort(),
    ({ ledger }) => ledger.meet(id, { inStock: 10, reserved: qty }),
    ({ ledger }) => ledger.raiseEpoch(id),
    ifMet(async ({ ledger }) => {
      const { doubts, ...books } = await ledger.read(id)
      return { ...books, doubts: plain(doubts) }
    }),
    ({ ledger }) => ledger.doubt([{ productId: id, qty, verb, ...tried }]),
    ({ ledger }) => ledger.doubtUnsettled(id),
    ifMet(async (side) => {
      const { doubts } = await side.ledger.read(id)
      const happened = doubts.filter((doubt) => doubt.verb === verb && doubt.qty === qty)
      // A doubt that others have understood meanwhile has its effect already.
      const gone = { ...(happened[0] ?? { verb, qty, since: new Date(), orderId: null }), id: 1_000_000 }
      return side.ledger.settle(id, await epochOf(side, id), {
        happened: [...happened, gone],
        unexplainedHold: pieces,
        followedStock: -pieces,
        undecided: pieces > 0 ? { tooMany: pieces, tooFew: 0, doubts, taken: happened } : undefined,
      })
    }),
    ifMet(async (side) => {
      const doubt = await side.ledger.sending(id, await epochOf(side, id), verb, qty)
      if (!doubt) return 'overtaken'
      const answer = pieces > 0 ? 'done' : pieces < 0 ? 'refused' : 'unknown'
      if (epochShift === 0 && age === 0)
        await side.ledger.settle(id, doubt.epoch, { happened: [doubt], unexplainedHold: 0, followedStock: 0, undecided: undefined })
      await side.ledger.answered(id, { ...doubt, epoch: doubt.epoch - epochShift }, answer, pieces > 0 ? 'hold-missing' : 'stock-short')
      return { verb: doubt.verb, qty: doubt.qty, epoch: doubt.epoch }
    }),
    ifMet(async (side) => side.ledger.cannotHold(id, await epochOf(side, id))),
    ifMet(async (side) => side.ledger.agreed(id, await epochOf(side, id), (await side.ledger.read(id)).doubts)),
    ({ ledger }) => ledger.forgetOld(id, age),
    ({ ledger }) => ledger.isAtPeace(id),
    ({ ledger }) => ledger.inDoubt(),
    ({ ledger }) => ledger.count(),
  ])
}

for (const seed of [1, 2]) {
  test.serial(`verbs said to PostgreSQL and to the tables in memory get one answer, script ${seed}`, async (t) => {
    const database = await createDatabase()
    const pool = await connectPool(database.dsn, { size: 2, logger: createLogger('silent') })
    try {
      const { chance } = createWorld(seed)
      const [memory, postgres] = [inMemory(), inPostgres(pool, database.dsn)]
      for (let steps = 0; steps < 300; steps += 1) {
        const { checkouts, events } = (await memory.dump()) as { checkouts: unknown[]; events: unknown[] }
        const step = nextStep(chance, checkouts.length, events.length)
        const [played, real] = [await step(memory), await step(postgres)]
        if (!t.deepEqual(real ?? null, played ?? null, `step ${steps}: ${step}`)) break
        if (steps % 20 === 19 && !t.deepEqual(await postgres.dump(), await memory.dump(), `after step ${steps}`)) break
      }
      const { orders } = (await memory.dump()) as { orders: string[] }
      t.true(
        orders.some((order) => order.endsWith('PAID')),
        'some came to the end of their way',
      )
    } finally {
      await pool.end()
      await database.drop()
    }
  })
}
