import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { createPaymentEvents } from '../../src/db/payment-events.ts'
import { openHarness, paymentOf, type Harness } from '../payment/harness.ts'
import { hostClock } from '../support/clock.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { admin } from './command.ts'

let shop: Shop
let harness: Harness
let env: Record<string, string>
let folder: string
test.before(async () => {
  shop = await openShop({ roles: ['web', 'worker'] })
  harness = await openHarness(shop)
  env = { POSTGRES_DSN: shop.dsn, REDIS_URL: process.env.REDIS_URL!, REDIS_PREFIX: shop.prefix }
  folder = await mkdtemp(join(tmpdir(), 'edit-'))
})
test.after.always(async () => {
  await harness?.close()
  await shop?.close()
  await rm(folder, { recursive: true, force: true })
})

const run = (...args: string[]) => admin(args, env)
const recorded = (verb: string) =>
  shop.query<{ operator: string; reason: string; changed: number; selection: object }>(
    'select operator, reason, changed, selection from order_service.operator_actions where verb = $1 order by id desc',
    [verb],
  )

/** The letter of a payment with a wrong amount. */
async function letter() {
  const bought = await harness.buys({ product_id: shop.catalog.product({ stock: 10 }), qty: 2 })
  const fields = { type: 'payment.succeeded', order_id: bought.orderId, amount_cents: 5, currency: 'USD' }
  const { eventId, attempt } = await harness.written({ ...paymentOf(bought), value: Buffer.from(JSON.stringify(fields)) })
  await createPaymentEvents(harness.pool, hostClock).deadLetter({ eventId, attempt: attempt! }, 'wrong-amount', 'not what it costs')
  const [row] = await shop.query<{ id: number }>('select id::int from order_service.dead_letters where event_id = $1', [eventId])
  return { id: String(row!.id), bought, fields }
}

test.serial('`dead-letters edit` applies the content of a file, waits for its payment, and records who did it and why', async (t) => {
  const { id, bought, fields } = await letter()
  const file = join(folder, 'message.json')
  await writeFile(file, '{')
  const edit = ['dead-letters', 'edit', id, '--file', file, '--reason', 'Payment said so', '--operator', 'ada']
  const refused = await run(...edit)
  t.is(refused.code, 1)
  t.is(refused.err, 'The edited message cannot be applied: the value is not JSON; nothing was changed\n')
  await writeFile(file, JSON.stringify({ ...fields, amount_cents: bought.totalCents }))
  t.deepEqual(await run(...edit), { code: 0, out: `${id}: order ${bought.orderId} is PAID\n`, err: '' })
  t.like((await recorded('edit-letter'))[0], { operator: 'ada', reason: 'Payment said so', changed: 1 })
})

test.serial('`dead-letters replay` and `discard` are recorded', async (t) => {
  const { id } = await letter()
  t.is((await run('dead-letters', 'replay', id)).code, 0)
  const [replayed] = await recorded('replay-letters')
  t.like(replayed, { reason: 'from the command line', selection: { items: [Number(id)] } })
  t.regex(replayed!.operator, /^[^@]+@.+$/)
  const other = await letter()
  t.is((await run('dead-letters', 'discard', other.id, '--reason', 'refund 4711')).code, 0)
  t.like((await recorded('discard-letters'))[0], { reason: 'refund 4711', changed: 1 })
})

test.serial('`act` prints what became of each item, as text or JSON', async (t) => {
  const { id } = await letter()
  const done = await run('act', 'discard-letters', id, '99999', '--reason', 'a test', '--json')
  t.is(done.code, 1, 'one of them failed')
  const { results, ...action } = JSON.parse(done.out) as { results: { item: number; result: string }[] }
  t.like(action, { verb: 'discard-letters', state: 'DONE', items: 2, changed: 1, failed: 1 })
  t.deepEqual(
    results.map(({ item, result }) => [item, result]),
    [
      [Number(id), 'changed'],
      [99_999, 'failed'],
    ],
  )
  t.regex((await run('act', 'discard-letters', id, '--reason', 'a test')).out, new RegExp(`${id} +unchanged: it was discarded at`))
  t.is((await run('act', 'retry-payments', '--cause', 'payment-early', '--reason', 'x')).code, 1)
})

test.serial('`act` pauses and resumes queues, and `drain` and the repair of counters are recorded', async (t) => {
  t.regex((await run('act', 'pause-queue', 'payment', '--reason', 'x')).out, /the queue payment is paused/)
  t.regex((await run('act', 'resume-queue', '--queue', 'payment', '--reason', 'x')).out, /the queue payment was resumed/)
  const nothing = await run('act', 'resume-queue', 'letters', '--reason', 'x')
  t.deepEqual([nothing.code, nothing.err], [1, 'There is no queue "letters"; nothing was changed\n'])
  await run('drain', '--timeout', '0', '--reason', 'going back')
  t.like((await recorded('drain'))[0], { reason: 'going back', changed: 1 })
  t.is((await run('act', 'accept-work', '--reason', 'done')).code, 0)
  await run('drain', '--undo')
  t.deepEqual(
    (await recorded('accept-work')).map(({ reason, changed }) => [reason, changed]),
    [
      ['from the command line', 0],
      ['done', 1],
    ],
  )
  await run('inventory', '--check')
  t.is((await recorded('repair-counters')).length, 0)
  t.is((await run('inventory', '--check', '--repair')).code, 0)
  t.like((await recorded('repair-counters'))[0], { changed: 0 })
})

const wrong: string[][] = [
  ['act'],
  ['act', 'nothing', '--reason', 'x'],
  ['act', 'edit-letter', '1', '--reason', 'x'],
  ['act', 'retry-payments', '--reason', 'x'],
  ['act', 'retry-payments', '1'],
  ['act', 'retry-payments', 'one', '--reason', 'x'],
  ['act', 'retry-payments', '1', '--cause', 'payment-early', '--reason', 'x'],
  ['act', 'retry-payments', '--cause', 'nothing', '--reason', 'x'],
  ['act', 'retry-payments', '--cause', 'payment-early', '--service', 'cart', '--reason', 'x'],
  ['act', 'retry-payments', '--queue', 'payment', '--reason', 'x'],
  ['act', 'resume-queue', '--reason', 'x'],
  ['act', 'resume-queue', 'payment', 'checkout', '--reason', 'x'],
  ['act', 'accept-work', '1', '--reason', 'x'],
  ['act', 'retry-payments', '1', '--rate', 'fast', '--reason', 'x'],
  ['actions', 'list', '7'],
  ['actions', 'show'],
  ['actions', 'pause', 'x'],
  ['actions', 'abort', '1', '2'],
  ['dead-letters', 'edit', '1', '--reason', 'x'],
  ['dead-letters', 'edit', '1', '--file', 'x'],
]
test.serial('a wrong command line of these exits with 64 before it connects', async (t) => {
  const nowhere = { POSTGRES_DSN: 'postgresql://127.0.0.1:1/none', REDIS_URL: 'redis://127.0.0.1:1' }
  for (const args of wrong) t.is((await admin(args, nowhere)).code, 64, args.join(' '))
})

test.serial('`actions pause`, `resume` and `abort` say what they find', async (t) => {
  const { err, code } = await run('actions', 'pause', '999999')
  t.deepEqual([code, err], [1, 'There is no action 999999; nothing was changed\n'])
  t.is((await run('actions', 'show', '999999')).code, 1)
  t.regex((await run('actions', 'abort', '1')).err, /Action 1 is DONE; nothing was changed/)
})
