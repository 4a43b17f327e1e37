import test from 'ava'
import { type DeadLetter, listLetters } from '../../src/db/dead-letters.ts'
import { type ReadMessage, readBridgeTotals, receive } from '../../src/db/inbox.ts'
import { createPaymentEvents } from '../../src/db/payment-events.ts'
import type { DeadLetterFault } from '../../src/model.ts'
import { unreadable } from '../../src/kafka/payment-message.ts'
import { type Bought, openHarness, paymentOf, type Harness, topic } from '../payment/harness.ts'
import { keepLocked } from '../stock/harness.ts'
import { hostClock } from '../support/clock.ts'
import { createDatabase } from '../support/database.ts'
import { freePort } from '../support/services/ports.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'
import { admin, startAdmin } from './command.ts'

let shop: Shop
let harness: Harness
/** Just what the command needs. */
let env: Record<string, string>
test.before(async () => {
  shop = await openShop({ roles: ['web', 'worker'], env: { CALL_TIMEOUT_MS: '1500' } })
  harness = await openHarness(shop)
  env = {
    POSTGRES_DSN: shop.dsn.replace('postgresql:', 'postgresql+psycopg:'),
    REDIS_URL: process.env.REDIS_URL!,
    REDIS_PREFIX: shop.prefix,
  }
})
test.after.always(async () => {
  await harness?.close()
  await shop?.close()
})
test.afterEach.always(async (t) => {
  const { consumed, applied, duplicate, dead, waiting, ignored } = await readBridgeTotals(harness.pool)
  t.is(consumed, applied + duplicate + dead + waiting + ignored, 'the totals of the bridge balance')
})

const run = (...args: string[]) => admin(['dead-letters', ...args], env)
const product = () => shop.catalog.product({ stock: 10 })

const letterOf = async (is: (letter: DeadLetter) => boolean) => {
  const letter = (await listLetters(harness.pool, { all: true, limit: 1000 })).find(is)
  if (!letter) throw new Error('there is no such letter')
  return letter
}
const letter = (id: number) => letterOf((one) => one.id === id)

/** A message that a person has to handle, as it came. @returns the id of its letter */
async function unread(value: string | Buffer | null, reason = 'the value is not JSON'): Promise<number> {
  const message: ReadMessage = { ...paymentOf({ orderId: 1, totalCents: 1 }), value: value === null ? null : Buffer.from(value) }
  await receive(harness.pool, { topic, partition: 0 }, [unreadable(message, reason)])
  return (await letterOf(({ offset, eventId }) => offset === message.offset && eventId === undefined)).id
}

/** An event that died of this. @returns the id of its letter */
async function died(message: ReadMessage, fault: DeadLetterFault, reason = 'so it was'): Promise<number> {
  const { eventId, attempt } = await harness.written(message)
  await createPaymentEvents(harness.pool, hostClock).deadLetter({ eventId, attempt: attempt! }, fault, reason)
  return (await letterOf((one) => one.eventId === eventId)).id
}

async function order(): Promise<Bought & { productId: number }> {
  const productId = product()
  return { productId, ...(await harness.buys({ product_id: productId, qty: 2 })) }
}

test.serial('`dead-letters list` says so when there are no dead letters', async (t) => {
  t.deepEqual(await run('list'), { code: 0, out: 'No dead letters wait for an operator.\n', err: '' })
  t.deepEqual(await run('list', '--json'), { code: 0, out: '[]\n', err: '' })
})

test.serial('`dead-letters list` cuts long values, and `show` prints one letter whole, with its order and what to do', async (t) => {
  const bought = await order()
  const eventId = await harness.paid(paymentOf(bought, { amountCents: 1, provider: 'p'.repeat(200) }))
  await harness.ended(eventId)
  const { id, lastAt } = await letterOf((one) => one.eventId === eventId)

  const list = await run('list')
  const row = list.out.split('\n').find((line) => line.startsWith(`${id} `))!
  t.is(list.code, 0)
  t.regex(row, new RegExp(` 1 +WAITING +wrong-amount +${bought.orderId} `))
  t.true(row.includes(lastAt.toISOString().slice(0, 19).replace('T', ' ')), 'in UTC')
  t.false(row.includes('p'.repeat(60)))

  const show = await run('show', String(id))
  t.is(show.code, 0)
  t.true(show.out.includes('p'.repeat(200)))
  t.regex(show.out, /remedy +its amount or currency differs from the order: refund/)
  t.regex(show.out, /reason +1 USD was paid, but order \d+ costs 2000 USD/)
})

test.serial('bytes that are not UTF-8 are shown in base64, and nothing controls the terminal', async (t) => {
  const bytes = Buffer.from([0xff, 0x00, 0x1b, 0x5b])
  const binary = await unread(bytes)
  const evil = '\u001b[2J\u009b31m\u202egnp.exe\u2028\r\nnext\u{e0041}'
  const text = await unread(evil, `reason ${evil}`)

  t.regex((await run('show', String(binary))).out, new RegExp(`value +base64:${bytes.toString('base64')}\n`))
  for (const args of [['list'], ['list', '--json'], ['show', String(text)], ['show', String(text), '--json']]) {
    const { out, code } = await run(...args)
    t.is(code, 0)
    t.notRegex(out.replaceAll('\n', ''), /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u, args.join(' '))
  }
  t.true((await run('show', String(text))).out.includes('\\u{001b}[2J\\u{009b}31m\\u{202e}gnp.exe\\u{2028}\\r\\nnext\\u{e0041}'))
  const shown = JSON.parse((await run('show', String(text), '--json')).out)
  t.deepEqual(shown.value, { text: evil }, 'JSON says the same')
  const listed = JSON.parse((await run('list', '--json')).out) as { id: number; value: unknown }[]
  t.deepEqual(listed.find(({ id }) => id === binary)!.value, { base64: bytes.toString('base64') })
})

test.serial('a dead letter without a value is shown', async (t) => {
  const id = await unread(null, 'the value is missing')
  t.regex((await run('show', String(id))).out, /value +none\n/)
})

test.serial('a dead letter that is replayed once Catalog works again makes its order PAID', async (t) => {
  const bought = await order()
  shop.catalog.setInventory(bought.productId, null)
  const eventId = await harness.paid(paymentOf(bought))
  t.like(await harness.ended(eventId), { fault: 'catalog-refused' })
  const { id } = await letterOf((one) => one.eventId === eventId)
  shop.catalog.setInventory(bought.productId, { in_stock: 10, reserved: 2 })

  t.deepEqual(await run('replay', String(id)), { code: 0, out: `${id}: order ${bought.orderId} is PAID\n`, err: '' })

  t.is(await harness.statusOf(bought), 'PAID')
  await harness.totalsAre(bought.productId, { in_stock: 8, reserved: 0 })
  t.is((await letter(id)).state, 'REPLAYED')
  t.deepEqual(await run('replay', String(id)), { code: 0, out: `${id}: order ${bought.orderId} is PAID\n`, err: '' }, 'said again')
})

test.serial('a replayed letter that fails again is dead again, with the reason', async (t) => {
  const bought = await order()
  const id = await died(paymentOf(bought, { amountCents: 5 }), 'wrong-amount')
  const said = await run('replay', String(id))
  t.deepEqual(said, { code: 1, out: `${id}: dead again: 5 USD was paid, but order ${bought.orderId} costs 2000 USD\n`, err: '' })
  t.like(await letter(id), { state: 'WAITING', times: 2 })
})

test.serial('a payment of an order that was paid meanwhile needs nothing any more', async (t) => {
  const bought = await order()
  const id = await died(paymentOf(bought, { provider: 'late' }), 'unknown-order')
  await harness.ended(await harness.paid(paymentOf(bought)))
  t.deepEqual(await run('replay', String(id)), { code: 0, out: `${id}: order ${bought.orderId} was already paid\n`, err: '' })
})

test.serial('a replay that takes longer than the command waits goes on without it', async (t) => {
  const id = await died(paymentOf({ orderId: 2_000_000_001, totalCents: 2000 }), 'unknown-order')
  const said = await run('replay', String(id), '--wait', '2')
  t.is(said.code, 1)
  t.regex(said.out, new RegExp(`^${id}: still waiting: there is no order 2000000001; a worker keeps retrying\n$`))
  t.is((await letter(id)).state, 'REPLAYED')
})

test.serial(
  'an unreadable message that a newer reader can read pays its order when replayed, and its letter names the order',
  async (t) => {
    const bought = await order()
    const id = await unread(JSON.stringify({ type: 'payment.succeeded', order_id: bought.orderId, amount_cents: 2000, currency: 'USD' }))
    t.deepEqual(await run('replay', String(id)), { code: 0, out: `${id}: order ${bought.orderId} is PAID\n`, err: '' })
    t.like(await letter(id), { state: 'REPLAYED', orderId: bought.orderId })
    await harness.totalsAre(bought.productId, { in_stock: 8, reserved: 0 })
  },
)

test.serial('a replayed message that is read, and whose event then fails, stays in the same dead letter', async (t) => {
  const bought = await order()
  const id = await unread(JSON.stringify({ type: 'payment.succeeded', order_id: bought.orderId, amount_cents: 1, currency: 'USD' }))
  t.regex((await run('replay', String(id))).out, /dead again: 1 USD was paid/)
  t.like(await letter(id), { state: 'WAITING', fault: 'wrong-amount', orderId: bought.orderId, times: 2 })
})

test.serial('a replay reports ignored messages, failed payments and repetitions as such', async (t) => {
  const bought = await order()
  await harness.ended(await harness.paid(paymentOf(bought)))
  const told = { order_id: bought.orderId, amount_cents: 2000, currency: 'USD' }
  const twin = { type: 'payment.succeeded', provider: 'card', payment_id: `p-${bought.orderId}`, ...told }
  const [first, again, failed, other] = [
    await unread(JSON.stringify(twin)),
    await unread(JSON.stringify(twin)),
    await unread(JSON.stringify({ type: 'payment.failed', ...told })),
    await unread(JSON.stringify({ type: 'payment.opened' })),
  ]
  const { code, out } = await run('replay', ...[first, again, failed, other].map(String))
  const { eventId } = await letter(first!)
  t.is(code, 0)
  t.deepEqual(
    out.trim().split('\n').sort(),
    [
      `${first}: order ${bought.orderId} was already paid`,
      `${again}: a repetition of payment ${eventId}: nothing is applied twice`,
      `${failed}: a failed payment: recorded, the order is unchanged`,
      `${other}: ignored: its type does not concern orders`,
    ].sort(),
  )
})

test.serial('a message that still cannot be read stays a dead letter, with its bytes', async (t) => {
  const id = await unread('{')
  t.deepEqual(await run('replay', String(id)), { code: 1, out: `${id}: dead again: the value is not JSON\n`, err: '' })
  t.like(await letter(id), { state: 'WAITING', times: 2, value: Buffer.from('{') })
})

test.serial('a replay of several letters reports each of them, and a missing one does not stop the others', async (t) => {
  const bought = await order()
  const good = await died(paymentOf(bought), 'unknown-order')
  const bad = await unread('nonsense')
  const { code, out } = await run('replay', '999999', String(bad), String(good), String(good))
  t.is(code, 1)
  t.deepEqual(out.split('\n').filter(Boolean), [
    '999999: no dead letter has this id',
    `${bad}: dead again: the value is not JSON`,
    `${good}: order ${bought.orderId} is PAID`,
  ])
})

test.serial('two people who replay the same letters at once both see the results, and stock is taken once', async (t) => {
  const [one, two] = [await order(), await order()]
  const ids = [
    String(await died(paymentOf(one), 'unknown-order')),
    String(await unread(JSON.stringify({ type: 'payment.succeeded', order_id: two.orderId, amount_cents: 2000, currency: 'USD' }))),
  ]
  const said = await Promise.all([run('replay', ...ids), run('replay', ...ids.toReversed())])
  for (const { code, out } of said) {
    t.is(code, 0, out)
    t.true(out.includes(`${ids[0]}: order ${one.orderId} is PAID`), out)
    t.true(out.includes(`${ids[1]}: order ${two.orderId} is PAID`), out)
  }
  for (const { productId } of [one, two]) {
    await harness.totalsAre(productId, { in_stock: 8, reserved: 0 })
    t.is(harness.commits(productId, 2).net, 1)
  }
})

test.serial('a replay whose letter is just being replayed by somebody else waits for their result', async (t) => {
  const bought = await order()
  const id = String(await died(paymentOf(bought), 'unknown-order'))
  const [before] = await shop.query<{ id: number }>('select coalesce(max(id), 0)::int as id from order_service.operator_actions')
  const unlock = await keepLocked(shop.dsn, 'select from order_service.dead_letters where id = $1 for update', [id])
  const first = run('replay', id)
  await until(
    () => shop.query(`select from order_service.operator_actions where id > $1 and state = 'DONE'`, [before!.id]),
    ({ length }) => length === 1,
  )
  await unlock()

  for (const { code, out } of [await run('replay', id), await first])
    t.deepEqual([code, out], [0, `${id}: order ${bought.orderId} is PAID\n`])
})

test.serial('a replay that is killed loses nothing', async (t) => {
  const bought = await order()
  const id = await died(paymentOf(bought), 'unknown-order')
  const hanging = shop.catalog.fault({ call: 'commit', productId: bought.productId, fault: 'hang' })
  const killed = startAdmin(['dead-letters', 'replay', String(id)], env)
  await until(hanging.fired, (times) => times > 0)
  killed.kill()
  await killed.said
  hanging.remove()
  t.deepEqual(await run('replay', String(id)), { code: 0, out: `${id}: order ${bought.orderId} is PAID\n`, err: '' })
  await harness.totalsAre(bought.productId, { in_stock: 8, reserved: 0 })
})

test.serial('a replay that was killed before it added its job is continued by the next replay', async (t) => {
  const bought = await order()
  const id = await died(paymentOf(bought), 'unknown-order')
  // What stands in PostgreSQL when the first of its two writes is all there was.
  await shop.query(`update order_service.dead_letters set state = 'REPLAYED' where id = $1`, [id])
  await shop.query(`update order_service.payment_events set state = 'WAITING', attempt = attempt + 1 where order_id = $1`, [bought.orderId])
  t.deepEqual(await run('replay', String(id)), { code: 0, out: `${id}: order ${bought.orderId} is PAID\n`, err: '' })
})

test.serial('a discarded letter keeps its bytes and the reason', async (t) => {
  const id = await unread('rubbish \u0007')
  t.deepEqual(await run('discard', String(id), '--reason', 'a test of Payment'), { code: 0, out: `${id}: discarded\n`, err: '' })
  t.like(await letter(id), { state: 'DISCARDED', note: 'a test of Payment', value: Buffer.from('rubbish \u0007') })
  const again = await run('discard', String(id), '--reason', 'once more')
  t.is(again.code, 1)
  t.regex(again.err, new RegExp(`^${id}: it was discarded at \\S+ \\S+Z: a test of Payment; nothing was changed\n$`))
  const replayed = await run('replay', String(id))
  t.is(replayed.code, 1)
  t.regex(replayed.out, /it was discarded at/)
  t.false((await run('list')).out.split('\n').some((line) => line.startsWith(`${id} `)))
  t.true((await run('list', '--all')).out.split('\n').some((line) => line.startsWith(`${id} `)))
})

const wrong: string[][] = [
  [],
  ['frobnicate'],
  ['constructor', 'name'],
  ['dead-letters'],
  ['dead-letters', 'frobnicate'],
  ['dead-letters', 'list', '7'],
  ['dead-letters', 'list', '--every'],
  ['dead-letters', 'show'],
  ['dead-letters', 'show', '1', '2'],
  ['dead-letters', 'replay'],
  ['dead-letters', 'replay', '1', 'two'],
  ['dead-letters', 'replay', '0'],
  ['dead-letters', 'replay', '99999999999999999999'],
  ['dead-letters', 'replay', '1', '--wait', 'long'],
  ['dead-letters', 'discard', '1'],
  ['dead-letters', 'discard', '1', '--reason', ' '],
]
test.serial('a wrong command line exits with 64 and the list of commands before it connects', async (t) => {
  const nowhere = { POSTGRES_DSN: 'postgresql://127.0.0.1:1/none', REDIS_URL: 'redis://127.0.0.1:1' }
  for (const args of wrong) {
    const { code, out, err } = await admin(args, nowhere)
    t.is(code, 64, args.join(' '))
    t.is(out, '')
    t.regex(err, /^[^\n]+\n {2}order-admin problems /)
  }
})

test.serial('--help lists the commands and exits with 0', async (t) => {
  const { code, out } = await admin(['--help'], {})
  t.is(code, 0)
  t.regex(out, /order-admin dead-letters replay ID\.\.\. \[--wait SECONDS\]/)
})

test.serial('a wrong environment exits with 78 and names the variable without its value', async (t) => {
  const { code, err } = await admin(['dead-letters', 'list'], { POSTGRES_DSN: 'mysql://root:hunter2@db/app' })
  t.is(code, 78)
  t.regex(err, /^POSTGRES_DSN: the value is not a PostgreSQL URL; write [^\n]+\n$/)
  t.false(err.includes('hunter2'))
})

test.serial('order-admin ignores faults in variables that it does not need', async (t) => {
  const { code } = await admin(['dead-letters', 'list'], { ...env, NODE_ENV: 'production', PORT: 'eighty', CATALOG_BASE: 'nowhere' })
  t.is(code, 0)
})

test.serial('an unreachable PostgreSQL is reported in one line without its address', async (t) => {
  const port = await freePort()
  const { code, out, err } = await admin(['dead-letters', 'list'], {
    ...env,
    POSTGRES_DSN: `postgresql://ada:hunter2@127.0.0.1:${port}/app`,
  })
  t.deepEqual({ code, out, err }, { code: 69, out: '', err: 'PostgreSQL cannot be used (ECONNREFUSED); check POSTGRES_DSN\n' })
})

test.serial('a database without the service’s tables is reported in one line', async (t) => {
  const database = await createDatabase({ migrated: false })
  t.teardown(database.drop)
  const { code, err } = await admin(['dead-letters', 'list'], { ...env, POSTGRES_DSN: database.dsn })
  t.deepEqual({ code, err }, { code: 69, err: 'The tables do not exist yet; run node src/main.ts release\n' })
})

test.serial('with Redis away nothing is replayed, and the other commands work', async (t) => {
  const id = await died(paymentOf(await order()), 'unknown-order')
  const noRedis = { ...env, REDIS_URL: `redis://127.0.0.1:${await freePort()}` }
  const said = await admin(['dead-letters', 'replay', String(id)], noRedis)
  t.deepEqual(said, { code: 69, out: '', err: 'Redis cannot be reached; check REDIS_URL\n' })
  t.is((await letter(id)).state, 'WAITING')
  t.is((await admin(['dead-letters', 'show', String(id)], noRedis)).code, 0)
})
