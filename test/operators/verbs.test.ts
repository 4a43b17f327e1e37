import test from 'ava'
import { readBridgeTotals } from '../../src/db/inbox.ts'
import { ActionRefused, type ActionRequest } from '../../src/operators/action.ts'
import { by, openActions, type OperatorsHarness } from './harness.ts'

let harness: OperatorsHarness
test.before(async () => {
  harness = await openActions()
})
test.after.always(async () => harness?.close())
test.afterEach.always(async (t) => {
  const { consumed, applied, duplicate, dead, waiting, ignored } = await readBridgeTotals(harness.pool)
  t.is(consumed, applied + duplicate + dead + waiting + ignored, 'the totals of the bridge balance')
})

const jobsOf = async (queue: { getJobs: () => Promise<{ id?: string | undefined; opts: { delay?: number | undefined } }[]> }) =>
  Object.fromEntries((await queue.getJobs()).map((job) => [job.id!, job.opts.delay ?? 0]))

test.serial('retrying payments promotes delayed jobs, adds missing ones, and leaves ended payments alone', async (t) => {
  const { payment, queues, ask, results } = harness
  const [lost, delayed, waiting, applied] = [await payment(1), await payment(2), await payment(3), await payment(4)]
  await ask(`update order_service.payment_events set state = 'APPLIED', result = 'paid' where id = $1`, [applied])
  await queues.paymentQueue.addAgain([{ eventId: delayed, orderId: 2, attempt: null }], 60_000)
  await queues.paymentQueue.add([{ eventId: waiting, orderId: 3, attempt: null }])

  const { action, items } = await results({ verb: 'retry-payments', selection: { items: [lost, delayed, waiting, applied, 999_999] } })

  t.deepEqual(items, {
    [lost]: ['changed', 'tried now, for order 1'],
    [delayed]: ['changed', 'tried now, for order 2'],
    [waiting]: ['unchanged', 'its job already waits for a worker'],
    [applied]: ['unchanged', 'it is already APPLIED'],
    999_999: ['failed', 'no payment has this id'],
  })
  t.like(action, { state: 'DONE', items: 5, done: 5, changed: 2, failed: 1, operator: by.operator, reason: by.reason, perSecond: null })
  t.deepEqual(Object.keys(await jobsOf(queues.paymentQueue.queue)).sort(), [lost, delayed, waiting].map((id) => `payment-${id}`).sort())
  t.is(await queues.paymentQueue.queue.getDelayedCount(), 0)
  const touched = await ask('select from order_service.payment_events where id = any($1) and touched_at < now() - $2::interval', [
    [lost, delayed, waiting, applied],
    '30 s',
  ])
  t.is(touched.length, 2, 'the rescuer adds a job, should this process die before it does')
})

test.serial('retrying checkouts adds a job for an open one, and says why it leaves others alone', async (t) => {
  const { checkout, queues, ask, results } = harness
  const ids = [
    await checkout(1),
    await checkout(2, { untouchedMs: 0 }),
    await checkout(3, { state: 'CANCELLED' }),
    await checkout(4),
    await checkout(5, { untouchedMs: 0 }),
  ]
  await ask(`update order_service.checkouts set deadline_at = now() - interval '1 s' where order_id = 4`)
  await queues.checkoutQueue.addAgain({ orderId: 5, products: [], lease: null, deadline: 1, replyTo: null, tries: 1 }, 60_000)
  const { items } = await results({ verb: 'retry-checkouts', selection: { items: ids } })
  t.deepEqual(items, {
    1: ['changed', 'tried now'],
    2: ['unchanged', 'a worker is processing it'],
    3: ['unchanged', 'it is already CANCELLED'],
    4: ['unchanged', 'its deadline has passed: it is being cancelled'],
    5: ['changed', 'tried now'],
  })
  t.deepEqual(Object.keys(await jobsOf(queues.checkoutQueue.queue)).sort(), ['checkout-1', 'checkout-5'])
  t.is(await queues.checkoutQueue.queue.getDelayedCount(), 0)
})

test.serial('cancelling checkouts ends open ones, gives back their holds, and wakes the reconciler', async (t) => {
  const { checkout, queues, ask, results } = harness
  const ids = [await checkout(11), await checkout(12), await checkout(13, { state: 'CREATED' }).catch(() => 13)]
  await ask(`update order_service.checkouts set recovery_point = 'reserve-stock' where order_id = 11`)
  const { items } = await results({ verb: 'cancel-checkouts', selection: { items: ids } })
  t.deepEqual(items, {
    11: ['changed', 'cancelled; what it held is given back'],
    12: ['changed', 'cancelled; what it held is given back'],
    13: ['failed', 'no checkout has this id'],
  })
  const [row] = await ask('select state, outcome from order_service.checkouts where order_id = 11')
  t.deepEqual(row, { state: 'CANCELLED', outcome: { status: 503, detail: 'The checkout was cancelled by an operator' } })
  t.deepEqual(Object.keys(await jobsOf(queues.stockQueue.queue)), ['product-1'])
  t.deepEqual((await results({ verb: 'cancel-checkouts', selection: { items: [11] } })).items, {
    11: ['unchanged', 'it is already CANCELLED'],
  })
})

test.serial('accepting Catalog’s inventory stops listing what is ambiguous, and has the product checked', async (t) => {
  const { ask, results, queues } = harness
  await ask(`insert into order_service.products (product_id, expected_stock) values (21, 5), (22, 5)`)
  await ask(`insert into order_service.ambiguities (product_id, too_many, too_few, explanation) values (21, 2, 0, 'x'), (21, 0, 3, 'y')`)
  t.is(await harness.actions.count('accept-inventory', { cause: 'product-ambiguous', service: null }), 1)
  t.deepEqual((await results({ verb: 'accept-inventory', selection: { items: [21, 22] } })).items, {
    21: ['changed', '2 entries are no longer listed (up to 2 too many, up to 3 too few); the expected stock follows Catalog’s'],
    22: ['unchanged', 'nothing of this product is ambiguous'],
  })
  t.is(await harness.actions.count('accept-inventory', { cause: 'product-ambiguous', service: null }), 0)
  t.true('product-21' in (await jobsOf(queues.stockQueue.queue)))
  t.deepEqual((await results({ verb: 'reconcile-products', selection: { items: [22, 23] } })).items, {
    22: ['changed', 'compared with Catalog now'],
    23: ['failed', 'this product is unknown: no checkout has contained it yet'],
  })
  t.is((await ask('select from order_service.products where reconciling_since is not null')).length, 2)
})

test.serial('republishing offers undeliverable events again, and no others', async (t) => {
  const { ask, results } = harness
  const rows = await ask<{ id: number }>(
    `insert into order_service.outbox (event_id, order_id, type, payload, undeliverable_at, undeliverable_reason, sent_at)
     values (gen_random_uuid(), 1, 'order.paid', '{}', now(), 'too large', null), (gen_random_uuid(), 1, 'order.paid', '{}', null, null, now()) returning id::int`,
  )
  const [large, sent] = rows.map(({ id }) => id)
  t.is(await harness.actions.count('republish-events', { cause: 'event-undeliverable', service: null }), 1)
  t.deepEqual((await results({ verb: 'republish-events', selection: { items: [large!, sent!] } })).items, {
    [large!]: ['changed', 'the relay sends it to Kafka again'],
    [sent!]: ['unchanged', 'Kafka has accepted it already'],
  })
  t.is((await ask('select from order_service.outbox where undeliverable_at is null and sent_at is null')).length, 1)
})

test.serial('discarding letters records the reason in the letter and in the action', async (t) => {
  const { unread, ask, results } = harness
  const id = await unread('x')
  t.deepEqual((await results({ verb: 'discard-letters', selection: { items: [id] } })).items, { [id]: ['changed', 'discarded'] })
  t.deepEqual(await ask('select state, note from order_service.dead_letters where id = $1', [id]), [
    { state: 'DISCARDED', note: by.reason },
  ])
  t.regex(
    (await results({ verb: 'replay-letters', selection: { items: [id] } })).items[id]![1]!,
    /^it was discarded at .*: the test says so$/,
  )
})

test.serial('a verb whose record cannot be written changes nothing', async (t) => {
  const { ask, actions, unread, died, payment } = harness
  const id = await unread('y')
  const { letterId } = await died({ type: 'payment.succeeded', order_id: 71, amount_cents: 7, currency: 'USD' })
  const waiting = await payment(72)
  await ask(`insert into order_service.drain default values`)
  await ask(`alter table order_service.operator_action_items add constraint broken check (false) not valid`)
  const requests: Pick<ActionRequest, 'verb' | 'selection'>[] = [
    { verb: 'discard-letters', selection: { items: [id] } },
    { verb: 'replay-letters', selection: { items: [id, letterId] } },
    {
      verb: 'edit-letter',
      selection: { items: [letterId], value: Buffer.from('{"type":"payment.succeeded","order_id":71,"amount_cents":8}') },
    },
    { verb: 'retry-payments', selection: { items: [waiting] } },
    { verb: 'accept-work', selection: {} },
  ]
  try {
    for (const request of requests) await t.throwsAsync(actions.act({ ...request, ...by }), undefined, request.verb)
  } finally {
    await ask(`alter table order_service.operator_action_items drop constraint broken`)
  }
  t.deepEqual(await ask('select state from order_service.dead_letters where id = any($1)', [[id, letterId]]), [
    { state: 'WAITING' },
    { state: 'WAITING' },
  ])
  t.deepEqual(await ask('select state, amount_cents::int from order_service.payment_events where order_id = 71'), [
    { state: 'DEAD', amount_cents: 7 },
  ])
  t.deepEqual(await ask(`select from order_service.payment_events where id = $1 and touched_at < now() - interval '30 s'`, [waiting]), [])
  t.is((await ask('select from order_service.drain')).length, 1)
  t.is((await results()).length, 0, 'no record either')
  t.like(await actions.act({ verb: 'accept-work', selection: {}, ...by }), { state: 'DONE', changed: 1 })
  t.like(await actions.act({ verb: 'accept-work', selection: {}, ...by }), { state: 'DONE', changed: 0 })

  function results() {
    return ask(`select from order_service.operator_actions where verb = 'edit-letter' or verb = 'accept-work'`)
  }
})

test.serial('pausing and resuming a queue is recorded, with what changed', async (t) => {
  const { actions, queues, ask } = harness
  const run = async (verb: 'pause-queue' | 'resume-queue') => {
    const { id } = await actions.act({ verb, selection: { queue: 'payment' }, ...by })
    return (await actions.items(id, { limit: 1 }))[0]!.detail
  }
  t.is(await run('pause-queue'), 'the queue payment is paused')
  t.true(await queues.paymentQueue.queue.isPaused())
  t.is(await run('resume-queue'), 'the queue payment was resumed')
  t.is(await run('resume-queue'), 'the queue payment was running already')
  await t.throwsAsync(actions.act({ verb: 'resume-queue', selection: { queue: 'nothing' }, ...by }), { instanceOf: ActionRefused })
  t.is((await ask(`select from order_service.operator_actions where verb like '%-queue'`)).length, 3)
})

const refused: [string, Partial<ActionRequest>, RegExp][] = [
  ['no reason', { reason: '  ' }, /reason is missing/],
  ['a verb that is none', { verb: 'drop' as 'drain' }, /no such action/],
  ['a verb that does not help with the cause', { selection: { cause: 'message-unreadable', service: null } }, /does not help/],
  ['no items', { selection: { items: [] } }, /between 1 and 1000/],
  ['an id that is none', { selection: { items: [1.5] } }, /whole number/],
  ['a rate that is none', { perSecond: 0 }, /rate/],
  ['an edit without a value', { verb: 'edit-letter' }, /new value/],
  ['an edit larger than 1 MiB', { verb: 'edit-letter', selection: { items: [1], value: Buffer.alloc(1024 * 1024 + 1) } }, /1 MiB/],
  ['an action of the board', { verb: 'retry-jobs', selection: { queue: 'payment' } }, /cannot be carried out/],
]
for (const [what, change, message] of refused) {
  test.serial(`${what} is refused`, async (t) => {
    const request: ActionRequest = { verb: 'retry-payments', selection: { items: [1] }, ...by, ...change }
    await t.throwsAsync(harness.actions.act(request), { instanceOf: ActionRefused, code: 422 as never, message })
  })
}

test.serial('a cause that no item has any more is refused with a 404', async (t) => {
  const request: ActionRequest = { verb: 'retry-payments', selection: { cause: 'payment-early', service: null }, ...by }
  await t.throwsAsync(harness.actions.act(request), { instanceOf: ActionRefused, code: 404 as never })
})
