/** Outbox -> Kafka on real servers: nothing lost, nothing out of order within an order, and one relay at a time. */
import { once } from 'node:events'
import test from 'ava'
import { migrate } from '../../src/db/migrate.ts'
import { connectPool } from '../../src/db/pool.ts'
import type { Kafka } from '../../src/kafka/client.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { type Kafka as Broker, startKafka, startPostgres } from '../support/services/index.ts'
import { makeTopic } from '../support/topic.ts'
import { until } from '../support/until.ts'
import { isRising, open, sequencesByOrder } from './outbox-shop.ts'

const orders = (count: number, first = 1) => Array.from({ length: count }, (_, i) => ({ orderId: first + i }))

let broker: Broker
test.before(async () => {
  broker = await startKafka({ name: 'test-outbox-relay' })
})
test.after.always(async () => {
  await broker?.stop()
})

/** Counts what goes through, and can act between the acknowledgement and its being heard. */
function watched(kafka: Kafka, afterAck: () => Promise<void> = async () => {}): Kafka & { producers: number; rejections: number } {
  const counts = { producers: 0, rejections: 0 }
  return Object.assign(counts, {
    ...kafka,
    async connectProducer(signal?: AbortSignal) {
      const producer = await kafka.connectProducer(signal)
      counts.producers += 1
      return {
        close: producer.close,
        async send(...sent: Parameters<typeof producer.send>) {
          const positions = await producer.send(...sent).catch((error) => {
            counts.rejections += 1
            throw error
          })
          await afterAck()
          return positions
        },
      }
    },
  })
}

test.serial('events written while Kafka is down are sent after its return, each once and in order', async (t) => {
  const shop = await open(t, { bootstrap: broker.bootstrap, requestTimeoutMs: 1000 })
  const relay = shop.relay()
  relay.start()
  await shop.write(orders(5))
  await shop.allSent()

  await broker.kill()
  for (let i = 0; i < 10; i++) await shop.write(orders(5))
  t.is(await relay.relayOnce().catch(() => 'away'), 'away')
  await broker.restart()
  await shop.allSent()

  const landed = await shop.landed()
  t.is(landed.length, 55)
  t.is(new Set(landed.map(({ event }) => event.event_id)).size, 55)
  for (const sequences of sequencesByOrder(landed).values()) t.true(sequences.length === 11 && isRising(sequences))
})

test.serial('after a rejected send nothing that was acknowledged is missing', async (t) => {
  const shop = await open(t, { bootstrap: broker.bootstrap, requestTimeoutMs: 300 })
  const kafka = watched(shop.kafka)
  shop.relay({ kafka }).start()
  // One partition and one event a send: the next batch has the size and the place of the rejected one.
  await makeTopic(broker.bootstrap, shop.topic)
  await shop.write(orders(1))
  await shop.allSent()

  // Frozen, the broker takes the bytes into its buffer, does not answer in time, and writes them when it wakes.
  process.kill(broker.pid, 'SIGSTOP')
  await shop.write(orders(1))
  await until(() => kafka.rejections > 0)
  process.kill(broker.pid, 'SIGCONT')
  await shop.allSent()
  for (let i = 0; i < 3; i++) {
    await shop.write(orders(1))
    await shop.allSent()
  }

  const landed = await shop.landed()
  t.is(new Set(landed.map(({ event }) => event.event_id)).size, 5)
  for (const sequences of sequencesByOrder(landed).values()) t.true(isRising(sequences))
  t.true(kafka.producers > 1)
})

test.serial('a relay whose broker hangs stops within its patience, and leaves the events to the next one', async (t) => {
  const shop = await open(t, { bootstrap: broker.bootstrap })
  let connecting: Promise<unknown> | undefined
  const kafka: Kafka = {
    ...shop.kafka,
    connectProducer(signal) {
      const producer = shop.kafka.connectProducer(signal)
      connecting = producer.catch(() => 'cut off')
      return producer
    },
  }
  process.kill(broker.pid, 'SIGSTOP')
  t.teardown(() => void process.kill(broker.pid, 'SIGCONT'))
  const relay = shop.relay({ kafka, stopMs: 50 })
  relay.start()
  await shop.write(orders(1))
  await until(() => connecting !== undefined)
  const began = performance.now()
  await relay.stop()
  t.is(await connecting, 'cut off')
  // Three requests of 5 s would be due.
  t.true(performance.now() - began < 5000)
  t.deepEqual(await shop.query('select sent_at from order_service.outbox'), [{ sent_at: null }])
})

test.serial('PostgreSQL going away between the acknowledgement and its mark makes no second copy', async (t) => {
  const postgres = await startPostgres({ name: 'test-outbox-relay-postgres' })
  t.teardown(postgres.stop)
  await migrate(postgres.dsn, createLogger('silent'))
  const shop = await open(t, { dsn: postgres.dsn })
  let crashes = 0
  const kafka = watched(shop.kafka, async () => {
    if (crashes++ === 0) await postgres.kill()
  })
  shop.relay({ kafka }).start()

  await shop.write(orders(20))
  await until(() => crashes > 0)
  await postgres.restart()
  await shop.allSent()
  await shop.write(orders(20))
  await shop.allSent()

  t.is((await shop.landed()).length, 40)
})

test('events that come while a send is under way are gathered: a send for each checkout would cost as much as the checkout', async (t) => {
  const shop = await open(t)
  const acks: number[] = []
  const kafka = watched(shop.kafka, async () => {
    acks.push(performance.now())
    if (acks.length === 1) await shop.write(orders(1, 100))
  })
  shop.relay({ kafka, gatherMs: 400 }).start()
  await shop.write(orders(1))
  await until(() => acks.length === 2)
  await shop.allSent()

  t.true(acks[1]! - acks[0]! > 390, `${acks[1]! - acks[0]!} ms`)
})

test('events arrive once each, those of one order in their order with a rising sequence', async (t) => {
  const shop = await open(t)
  shop.relay({ batchRows: 50 }).start()
  await Promise.all(Array.from({ length: 8 }, (_, i) => shop.write([...orders(10, i * 10), ...orders(10, i * 10), ...orders(10, i * 10)])))
  for (let i = 0; i < 3; i++) await shop.write(orders(80, 0))
  await shop.allSent()

  const landed = await shop.landed()
  t.is(landed.length, 480)
  t.is(new Set(landed.map(({ event }) => event.event_id)).size, 480)
  t.true(landed.every(({ key, event }) => key === String(event.order_id)))
  for (const sequences of sequencesByOrder(landed).values()) t.true(sequences.length === 6 && isRising(sequences))
  const written = await shop.query('select id::int, event_id from order_service.outbox order by id')
  const sequences = landed.map(({ event }) => ({ id: event.sequence, event_id: event.event_id })).sort((a, b) => a.id - b.id)
  t.deepEqual(sequences, written as typeof sequences)
})

test('an event too large for the broker is undeliverable alone, and the others go on', async (t) => {
  const shop = await open(t)
  await shop.write([...orders(10), { orderId: 5, pad: 1_200_000 }, ...orders(10)])
  shop.relay().start()
  await shop.allSent()

  const aside = await shop.query(
    'select order_id, undeliverable_reason, sent_at from order_service.outbox where undeliverable_at is not null',
  )
  t.is(aside.length, 1)
  t.like(aside[0], { order_id: 5, sent_at: null })
  t.regex(String(aside[0]!.undeliverable_reason), /^MESSAGE_TOO_LARGE/)
  t.is((await shop.landed()).length, 20)
})

test('an event too large for its topic is found among those it was sent with', async (t) => {
  const shop = await open(t)
  await makeTopic(process.env.KAFKA_BOOTSTRAP!, shop.topic, { config: { 'max.message.bytes': '20000' } })
  // All of one send, which is too large as a whole too; only one of them is so by itself.
  await shop.write([...orders(20).map((order) => ({ ...order, pad: 5000 })), { orderId: 3, pad: 30_000 }, ...orders(20)])
  shop.relay().start()
  await shop.allSent()

  const aside = await shop.query('select order_id from order_service.outbox where undeliverable_at is not null')
  t.deepEqual(aside, [{ order_id: 3 }])
  const landed = await shop.landed()
  t.is(landed.length, 40)
  for (const sequences of sequencesByOrder(landed).values()) t.true(sequences.length === 2 && isRising(sequences))
})

test('a notification wakes the relay without waiting for its poll', async (t) => {
  const shop = await open(t)
  const relay = shop.relay({ pollMs: 3_600_000 })
  relay.start()
  await until(relay.leads)
  await shop.write(orders(1))
  await shop.allSent()
  await shop.write(orders(1))
  await shop.allSent()
  t.is((await shop.landed()).length, 2)
})

test('a signal of the same process wakes the relay without a notification', async (t) => {
  const shop = await open(t)
  const relay = shop.relay({ pollMs: 3_600_000 })
  relay.start()
  await until(relay.leads)
  await shop.write(orders(1))
  await shop.allSent()
  await shop.write(orders(3), { notify: false })
  for (let i = 0; i < 100; i++) relay.wake()
  await shop.allSent()
  t.is((await shop.landed()).length, 4)
})

test('the poll finds events without a notification', async (t) => {
  const shop = await open(t)
  const relay = shop.relay({ pollMs: 50 })
  relay.start()
  await until(relay.leads)
  await shop.write(orders(3), { notify: false })
  await shop.allSent()
  t.is((await shop.landed()).length, 3)
})

test('of two relays one leads, and the other takes over when it stops', async (t) => {
  const shop = await open(t)
  const relays = [shop.relay(), shop.relay()]
  for (const relay of relays) relay.start()
  await until(() => relays.some((relay) => relay.leads()))
  const [first, second] = relays[0]!.leads() ? relays : relays.toReversed()
  await shop.write(orders(20))
  await shop.allSent()
  t.false(second!.leads())
  t.is(await second!.relayOnce(), 0)

  await first!.stop()
  t.false(first!.leads())
  const sessions = await shop.query(
    "select pid from pg_stat_activity where datname = current_database() and application_name = 'order-service relay'",
  )
  t.is(sessions.length, 1)
  await until(second!.leads)
  await shop.write(orders(20))
  await shop.allSent()
  t.is((await shop.landed()).length, 40)
})

test('when the session of the one that leads is ended, the other takes over and both go on', async (t) => {
  const shop = await open(t)
  const relays = [shop.relay(), shop.relay()]
  for (const relay of relays) relay.start()
  await until(() => relays.some((relay) => relay.leads()))
  const [first, second] = relays[0]!.leads() ? relays : relays.toReversed()

  for (const [loser, winner] of [
    [first!, second!],
    [second!, first!],
  ] as const) {
    await shop.query(`select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted
      and database = (select oid from pg_database where datname = current_database())`)
    await until(winner.leads)
    t.false(loser.leads())
    await shop.write(orders(20))
    await shop.allSent()
  }
  t.is((await shop.landed()).length, 40)
})

test('a frozen relay is replaced, and does not send when it wakes', async (t) => {
  const shop = await open(t)
  const holders = () =>
    shop.query(
      "select pid from pg_locks where locktype = 'advisory' and granted and database = (select oid from pg_database where datname = current_database())",
    )
  const frozen = shop.relayProcess()
  await until(async () => (await holders()).length === 1)
  await shop.write(orders(20))
  await shop.allSent()
  const relay = shop.relay()
  relay.start()

  frozen.kill('SIGSTOP')
  await shop.write(orders(20))
  await until(relay.leads)
  await shop.allSent()
  frozen.kill('SIGCONT')
  for (let i = 0; i < 10; i++) await shop.write(orders(20))
  await shop.allSent()

  t.true(relay.leads())
  const landed = await shop.landed()
  t.is(landed.length, 240)
  t.is(new Set(landed.map(({ event }) => event.event_id)).size, 240)
})

test('a relay that dies between the acknowledgement and its mark is followed by one that sends the same events again, with the same ids', async (t) => {
  const shop = await open(t)
  let acknowledged = 0
  const dying = shop.relay({
    kafka: watched(shop.kafka, () => {
      acknowledged += 1
      return new Promise(() => {})
    }),
    stopMs: 10,
  })
  dying.start()
  await shop.write([...orders(10), ...orders(10)])
  await until(() => acknowledged === 1)
  await dying.stop()
  shop.relay().start()
  await shop.allSent()

  const landed = await shop.landed()
  t.is(landed.length, 40)
  const copies = Map.groupBy(landed, ({ event }) => event.event_id)
  t.is(copies.size, 20)
  for (const [first, second] of copies.values()) t.deepEqual(first!.event, second!.event)
  for (const sequences of sequencesByOrder(landed).values()) t.true(sequences.length === 2 && isRising(sequences))
})

test('killed again and again in the middle, relays bring everything', async (t) => {
  const shop = await open(t)
  await shop.write(Array.from({ length: 40 }, () => orders(100)).flat())
  for (let round = 1; round <= 3; round++) {
    const child = shop.relayProcess()
    await until(
      async () =>
        Number((await shop.query('select count(*) from order_service.outbox where sent_at is not null'))[0]!.count) >= round * 600,
    )
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  shop.relay().start()
  await shop.allSent()

  const byOrder = sequencesByOrder(await shop.landed())
  t.is(byOrder.size, 100)
  for (const sequences of byOrder.values()) t.true(sequences.length === 40 && isRising(sequences))
})

test('a relay that was stopped leaves nothing that would keep its process alive, and no session', async (t) => {
  const shop = await open(t)
  const child = shop.relayProcess()
  await shop.write(orders(20))
  await shop.allSent()
  child.kill('SIGTERM')
  const [code, signal] = await once(child, 'exit')
  t.is(code, 0)
  t.is(signal, null)
  const sessions = await shop.query(
    "select pid from pg_stat_activity where datname = current_database() and application_name = 'order-service relay'",
  )
  t.deepEqual(sessions, [])
})

test('a relay that is stopped while it gathers sends what it gathered before it ends', async (t) => {
  const shop = await open(t)
  const relay = shop.relay({ gatherMs: 3_600_000, pollMs: 3_600_000 })
  relay.start()
  await until(relay.leads)
  await until(() => relay.progress().succeeded > 0) // to lead wakes it: from now on it gathers
  await shop.write(orders(20), { notify: false })
  await relay.stop()
  t.deepEqual(await shop.query('select from order_service.outbox where sent_at is null'), [])
  t.is((await shop.landed()).length, 20)
})

test('a relay that is stopped in the middle of a backlog sends the sends that are left of it', async (t) => {
  const shop = await open(t)
  let stopped: Promise<void> | undefined
  const kafka = watched(shop.kafka, async () => {
    stopped ??= relay.stop()
  })
  const relay = shop.relay({ kafka, batchRows: 2 })
  // Two of these are more than a send should be, so that each goes alone.
  await shop.write(orders(6).map((order) => ({ ...order, pad: 300_000 })))
  relay.start()
  await until(() => stopped !== undefined)
  await stopped
  t.is((await shop.landed()).length, 6)
})

test('a relay stops before it started, and twice', async (t) => {
  const shop = await open(t)
  const relay = shop.relay()
  await relay.stop()
  const other = shop.relay()
  other.start()
  await Promise.all([other.stop(), other.stop()])
  t.false(other.leads())
})

test('a session of the lock that PostgreSQL refuses is asked for again', async (t) => {
  const shop = await open(t)
  const name = new URL(shop.dsn).pathname.slice(1)
  const pool = await connectPool(shop.dsn, { size: 1, logger: createLogger('silent') })
  t.teardown(() => pool.end())
  const away = new URL(shop.dsn)
  away.pathname = `/${name}_later`
  const relay = shop.relay({ dsn: away.href, pool })
  relay.start()
  await shop.query(`create database ${name}_later`)
  t.teardown(() => shop.query(`drop database ${name}_later with (force)`))
  await until(relay.leads)
  t.pass()
})

test.serial('each event has the partition and the offset at which it stands on the topic', async (t) => {
  const shop = await open(t)
  await makeTopic(process.env.KAFKA_BOOTSTRAP!, shop.topic, { partitions: 3 })
  shop.relay().start()
  await shop.write(orders(20))
  await shop.write(orders(20))
  await shop.allSent()
  const rows = await shop.query('select event_id, partition, kafka_offset::int as offset from order_service.outbox order by id')
  const landed = await shop.landed()
  t.is(new Set(landed.map(({ partition }) => partition)).size, 3)
  t.is(rows.length, 40)
  for (const row of rows) {
    // A send whose acknowledgement came late may have been repeated.
    const copies = landed.filter(({ event }) => event.event_id === row.event_id)
    t.true(copies.some(({ partition, offset }) => partition === row.partition && offset === row.offset))
  }
})
