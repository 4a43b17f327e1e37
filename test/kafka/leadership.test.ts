/** The lock: one holder, whose own clock tells it first that it may have lost it. */
import test from 'ava'
import { createLeadership } from '../../src/kafka/leadership.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createDatabase } from '../support/database.ts'
import { until } from '../support/until.ts'

const logger = createLogger('silent')

test('a process that was frozen knows when it wakes that it may lead no longer, before it has heard from PostgreSQL', async (t) => {
  const { dsn, drop } = await createDatabase()
  const changes: boolean[] = []
  const leadership = createLeadership({
    dsn,
    name: 'test',
    logger,
    sessionTimeoutMs: 300,
    pingMs: 50,
    onChange: (leads) => changes.push(leads),
  })
  t.teardown(async () => {
    await leadership.stop()
    await drop()
  })
  leadership.start()
  await until(leadership.leads)

  // As a stopped process is: nothing of it runs, its clock goes on.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 600)
  t.false(leadership.leads())

  await until(() => changes.includes(false))
  await until(leadership.leads)
  t.deepEqual(changes, [true, false, true])
})

test('a relay that takes the lock listens on its session first; where that fails the lock is released and taken again', async (t) => {
  const { dsn, drop } = await createDatabase()
  let tries = 0
  const leadership = createLeadership({
    dsn,
    name: 'test',
    logger,
    pingMs: 20,
    async onAcquired(session) {
      t.false(leadership.leads())
      await session.query(tries++ === 0 ? 'select 1 / 0' : 'listen somewhere')
    },
  })
  t.teardown(async () => {
    await leadership.stop()
    await drop()
  })
  leadership.start()
  await until(leadership.leads)
  t.is(tries, 2)
})
