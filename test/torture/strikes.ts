/** Carries out what the plan has: each strike under a watch that puts right in time what it did. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { Client } from 'pg'
import { query } from '../support/database.ts'
import type { Downstreams } from '../support/downstreams/index.ts'
import type { Servers } from '../support/services/index.ts'
import type { Fleet } from './fleet.ts'
import { type Kind, type lockable, type Strike, tell } from './plan.ts'

export interface Battlefield extends Servers {
  fleet: Fleet
  downstreams: Downstreams
  /** Of the service's database. */
  dsn: string
  /** Others bring units of a product, or (below 0) take them. @returns false where it cannot be done right now */
  change(productId: number, units: number): boolean
}

/** How often each kind struck: with downstream services, the calls that were struck. */
export type Struck = Partial<Record<Kind, number>>

/** Resolves when every strike of the plan is over and put right. */
export async function carryOut(plan: readonly Strike[], field: Battlefield): Promise<Struck> {
  const struck: Struck = {}
  const count = (kind: Kind, times = 1) => (struck[kind] = (struck[kind] ?? 0) + times)
  const began = performance.now()
  /** A server, or a downstream's door, is struck by one at a time. */
  const turns = new Map<string, Promise<unknown>>()
  const inTurn = (name: string, act: () => Promise<unknown>): Promise<unknown> => {
    const turn = (turns.get(name) ?? Promise.resolve()).then(act)
    turns.set(name, turn)
    return turn
  }

  await Promise.all(
    plan.map(async (strike) => {
      await sleep(Math.max(0, strike.atMs - (performance.now() - began)))
      field.fleet.note(`strike ${new Date().toISOString()} ${tell(strike)}`)
      await carryOutOne(strike)
    }),
  )
  field.fleet.thaw()
  return struck

  async function carryOutOne(strike: Strike): Promise<unknown> {
    const { fleet, downstreams, postgres, redis, kafka, dsn } = field
    switch (strike.kind) {
      case 'kill':
        await fleet.kill(strike.process)
        return count('kill')
      case 'stop':
        count('stop')
        return fleet.stop(strike.process, strike.lastsMs)
      case 'deploy':
        count('deploy')
        return fleet.deploy(strike.process)
      case 'postgres-restart':
        return inTurn('postgres', () => restart(postgres, strike))
      case 'redis-restart':
        return inTurn('redis', () => restart(redis, strike))
      case 'kafka-restart':
        return inTurn('kafka', () => restart(kafka, strike))
      case 'postgres-cut':
        return inTurn('postgres', async () => {
          await query(
            dsn,
            'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()',
          )
          count('postgres-cut')
        })
      case 'flush':
        return inTurn('redis', async () => {
          const client = new Redis(redis.url)
          client.on('error', () => {})
          await client.flushall()
          client.disconnect()
          count('flush')
        })
      case 'lock-row':
        return lockRow(dsn, strike.table, { lastsMs: strike.lastsMs, locked: () => count('lock-row') })
      case 'wrong-clock':
        await fleet.shiftClock(strike.process, strike.ms)
        return count('wrong-clock')
      case 'others':
        return count('others', await changeStock(field, strike))
      case 'refuse':
        return inTurn(strike.downstream, async () => {
          const downstream = downstreams[strike.downstream]
          await downstream.down()
          count('refuse')
          await sleep(strike.lastsMs)
          await downstream.up()
        })
      default: {
        const { kind: fault, everyNth, times, lastsMs, ms, actFirst } = strike
        const options = { fault, everyNth, times, ms, actFirst }
        const told =
          strike.downstream === 'catalog'
            ? downstreams.catalog.fault({ ...options, ...(strike.call && { call: strike.call }) })
            : downstreams.shipping.fault({ ...options, ...(strike.call && { call: strike.call }) })
        await sleep(lastsMs)
        told.remove()
        return count(strike.kind, told.fired())
      }
    }
  }

  async function restart(server: Servers[keyof Servers], strike: Strike & { crash: boolean }): Promise<void> {
    if (strike.crash) await server.kill()
    await server.restart()
    count(strike.kind)
  }
}

/** The row that is most in use. */
const rowsInUse: Record<(typeof lockable)[number], string> = {
  products: 'select product_id from order_service.products order by call_id is null, updated_at desc',
  checkouts: "select order_id from order_service.checkouts order by state <> 'OPEN', order_id desc",
  orders: "select id from public.orders order by status <> 'CREATED', id desc",
  payment_events: "select id from order_service.payment_events order by state <> 'WAITING', id desc",
}

const ROW_TRIES = 20

/** Has it until PostgreSQL ends the session, where it is restarted meanwhile. @param locked called once there is such a row */
async function lockRow(
  dsn: string,
  table: (typeof lockable)[number],
  { lastsMs, locked }: { lastsMs: number; locked: () => void },
): Promise<void> {
  for (let tries = 0; tries < ROW_TRIES; tries += 1) {
    const person = new Client({ connectionString: dsn })
    person.on('error', () => {})
    try {
      await person.connect()
      await person.query('begin')
      const { rowCount } = await person.query(`${rowsInUse[table]} limit 1 for update skip locked`)
      if (rowCount === 1) {
        locked()
        return await sleep(lastsMs)
      }
    } catch {
      // PostgreSQL is away.
    } finally {
      await person.end().catch(() => {})
    }
    await sleep(200)
  }
}

/** Products that are known, those first that have a call under way or without an answer. */
const KNOWN = `select product_id::int as id from order_service.products p where expected_stock is not null
  order by call_id is null, not exists (select from order_service.unanswered_calls u where u.product_id = p.product_id), random() limit 3`

/** @returns how often it was done */
async function changeStock({ dsn, change }: Battlefield, { units, times, lastsMs }: { units: number; times: number; lastsMs: number }) {
  let done = 0
  for (let i = 0; i < times; i += 1) {
    const known = await query<{ id: number }>(dsn, KNOWN).catch(() => [])
    if (known.some(({ id }) => change(id, units))) done += 1
    await sleep(lastsMs / times)
  }
  return done
}
