/** Carries out what the plan has: each strike under a watch that puts right in time what it did. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { query } from '../support/database.ts'
import type { Neighbours } from '../support/neighbours/index.ts'
import type { Servers } from '../support/services/index.ts'
import type { Fleet } from './fleet.ts'
import { type Kind, type Strike, tell } from './plan.ts'

export interface Battlefield extends Servers {
  fleet: Fleet
  neighbours: Neighbours
  /** Of the service's database. */
  dsn: string
}

/** How often each kind struck: with neighbours, the calls that were struck. */
export type Struck = Partial<Record<Kind, number>>

/** Resolves when every strike of the plan is over and put right. */
export async function carryOut(plan: readonly Strike[], field: Battlefield): Promise<Struck> {
  const struck: Struck = {}
  const count = (kind: Kind, times = 1) => (struck[kind] = (struck[kind] ?? 0) + times)
  const began = performance.now()
  /** A server, or a neighbour's door, is struck by one at a time. */
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
    const { fleet, neighbours, postgres, redis, kafka, dsn } = field
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
      case 'refuse':
        return inTurn(strike.neighbour, async () => {
          const neighbour = neighbours[strike.neighbour]
          await neighbour.down()
          count('refuse')
          await sleep(strike.lastsMs)
          await neighbour.up()
        })
      default: {
        const { kind: fault, everyNth, times, lastsMs, ms, actFirst } = strike
        const terms = { fault, everyNth, times, ms, actFirst }
        const told =
          strike.neighbour === 'catalog'
            ? neighbours.catalog.fault({ ...terms, ...(strike.call && { call: strike.call }) })
            : neighbours.shipping.fault({ ...terms, ...(strike.call && { call: strike.call }) })
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
