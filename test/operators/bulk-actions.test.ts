import test from 'ava'
import { Worker } from 'bullmq'
import { ActionRefused, type ActionRequest } from '../../src/operators/action.ts'
import { connectPatient } from '../../src/redis/connection.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { by, openActions, type OperatorsHarness } from './harness.ts'

let harness: OperatorsHarness
test.beforeEach(async () => {
  harness = await openActions()
})
test.afterEach.always(async () => harness?.close())

const retryAll: Pick<ActionRequest, 'verb' | 'selection'> = {
  verb: 'retry-payments',
  selection: { cause: 'downstream-timeout', service: 'catalog' },
}

test.serial('more than 20 items are frozen, and carried out so many a second', async (t) => {
  await harness.payments(25, 'downstream-timeout')
  const { actions, bulk } = harness
  t.is(await actions.count(retryAll.verb, retryAll.selection), 25)
  t.deepEqual(await actions.sample(retryAll.verb, retryAll.selection, 3), [1, 2, 3])
  const { id } = await actions.act({ ...retryAll, ...by, perSecond: 10 })
  await harness.payments(0, 'x')
  t.like(await actions.read(id), { state: 'RUNNING', items: 25, done: 0, perSecond: 10 })
  t.deepEqual(await bulk.running(), [id])
  t.is(await harness.queues.actionQueue.queue.getJobState(`action-${id}`), 'waiting')

  t.true(await bulk.runSecond(id))
  t.like(await actions.read(id), { state: 'RUNNING', done: 10, changed: 10 })
  t.true(await bulk.runSecond(id))
  t.false(await bulk.runSecond(id))
  const ended = await actions.read(id)
  t.like(ended, { state: 'DONE', done: 25, changed: 25, failed: 0 })
  t.true(ended!.endedAt !== null)
  t.is(await harness.queues.paymentQueue.queue.getWaitingCount(), 25)
  t.false(await bulk.runSecond(id), 'a job that comes too late does nothing')
  t.is((await actions.items(id, { limit: 100, result: 'changed' })).length, 25)
})

test.serial('a job that waits for its next second stays delayed, however many workers ensure that there is one', async (t) => {
  await harness.payments(50, 'downstream-timeout')
  const { actionQueue } = harness.queues
  const { id } = await harness.actions.act({ ...retryAll, ...by, perSecond: 10 })
  const connection = connectPatient(process.env.REDIS_URL!, createLogger('silent'))
  const worker = new Worker('operator-actions', null, { connection, prefix: actionQueue.queue.opts.prefix!, autorun: false })
  try {
    const job = await worker.getNextJob('token')
    await job!.moveToDelayed(Date.now() + 60_000, 'token')
    await actionQueue.ensureJobs(await harness.bulk.running())
    t.is(await actionQueue.queue.getJobState(`action-${id}`), 'delayed')
    await job!.remove()
    await actionQueue.ensureJobs(await harness.bulk.running())
    t.is(await actionQueue.queue.getJobState(`action-${id}`), 'waiting')
  } finally {
    await worker.close()
    connection.disconnect()
  }
})

test.serial('an item that came to have the cause later is not acted on', async (t) => {
  await harness.payments(21, 'downstream-timeout')
  const { id } = await harness.actions.act({ ...retryAll, ...by, perSecond: 1000 })
  await harness.payment(500, 'downstream-timeout', 'catalog')
  t.false(await harness.bulk.runSecond(id))
  t.like(await harness.actions.read(id), { state: 'DONE', items: 21, done: 21 })
})

test.serial('a paused action does nothing until it is resumed, an aborted one ends, and each change is an action of its own', async (t) => {
  await harness.payments(50, 'downstream-timeout')
  const { actions, bulk } = harness
  const { id } = await actions.act({ ...retryAll, ...by, perSecond: 10 })
  await bulk.runSecond(id)
  t.like(await actions.change(id, 'PAUSED', { operator: 'bob@example.com', reason: 'Catalog is slow' }), { state: 'PAUSED', done: 10 })
  t.false(await bulk.runSecond(id))
  await t.throwsAsync(actions.change(id, 'PAUSED', by), { instanceOf: ActionRefused, message: /PAUSED; nothing was changed/ })
  await actions.change(id, 'RUNNING', by)
  t.true(await bulk.runSecond(id))
  await actions.change(id, 'ABORTED', by)
  t.false(await bulk.runSecond(id))
  t.like(await actions.read(id), { state: 'ABORTED', done: 20, changed: 20 })
  t.is((await actions.items(id, { limit: 100, result: null })).length, 30)
  await t.throwsAsync(actions.change(id, 'RUNNING', by), { instanceOf: ActionRefused })
  await t.throwsAsync(actions.change(9999, 'RUNNING', by), { instanceOf: ActionRefused, message: /There is no action/ })
  t.deepEqual(
    (await actions.list({ limit: 3 })).map((one) => [one.verb, one.selection, one.operator]),
    [
      ['abort-action', { items: [id] }, by.operator],
      ['resume-action', { items: [id] }, by.operator],
      ['pause-action', { items: [id] }, 'bob@example.com'],
    ],
  )
})

test.serial('of two people who start the same action, the second is told who started it', async (t) => {
  await harness.payments(30, 'downstream-timeout')
  const started = await Promise.allSettled(
    ['ada@example.com', 'bob@example.com'].map((operator) => harness.actions.act({ ...retryAll, operator, reason: 'Catalog is back' })),
  )
  const [first] = started.filter((one) => one.status === 'fulfilled')
  const [second] = started.filter((one) => one.status === 'rejected')
  const refused = second!.reason as ActionRefused
  t.true(refused instanceof ActionRefused)
  t.is(refused.code, 409)
  t.is(refused.runs!.id, first!.value.id)
  t.true(refused.message.includes(first!.value.operator), refused.message)
  t.is((await harness.actions.list({ limit: 10 })).length, 1)
})

test.serial('two workers at one action never act on an item twice', async (t) => {
  await harness.payments(300, 'downstream-timeout')
  const { id } = await harness.actions.act({ ...retryAll, ...by, perSecond: 100 })
  for (let run = 0; run < 10; run++) await Promise.all([harness.bulk.runSecond(id), harness.bulk.runSecond(id)])
  t.like(await harness.actions.read(id), { state: 'DONE', done: 300, changed: 300 })
})

test.serial('an item that fails by a fault of this service fails alone', async (t) => {
  await harness.payments(30, 'downstream-timeout')
  const { id } = await harness.actions.act({ ...retryAll, ...by, perSecond: 1000 })
  await harness.ask(
    `create function order_service.broken() returns trigger language plpgsql as $$ begin if new.id = 7 then raise exception 'broken'; end if; return new; end $$`,
  )
  await harness.ask(
    `create trigger broken before update on order_service.payment_events for each row execute function order_service.broken()`,
  )
  await harness.bulk.runSecond(id)
  t.like(await harness.actions.read(id), { state: 'DONE', done: 30, changed: 29, failed: 1 })
  t.like((await harness.actions.items(id, { limit: 5, result: 'failed' }))[0], { item: 7 })
})

test.serial('100,000 items are frozen within seconds, and progress is read at once', async (t) => {
  await harness.payments(100_000, 'downstream-timeout')
  await harness.ask('analyze order_service.payment_events')
  const began = performance.now()
  t.is(await harness.actions.count(retryAll.verb, retryAll.selection), 100_000)
  const counted = performance.now()
  const { id, items } = await harness.actions.act({ ...retryAll, ...by, perSecond: 1000 })
  const frozen = performance.now()
  t.is(items, 100_000)
  await harness.bulk.runSecond(id)
  const ran = performance.now()
  t.like(await harness.actions.read(id), { done: 1000 })
  const read = performance.now()
  t.log({ countMs: counted - began, freezeMs: frozen - counted, secondMs: ran - frozen, readMs: read - ran })
  t.true(frozen - counted < 15_000)
  t.true(read - ran < 300)
})
