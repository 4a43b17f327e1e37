/**
 * Sends more checkouts than can be served: `bin/bench-overload [--minutes 10] [--times 4]`. It measures the sustained rate with downstream
 * services that take a few ms, then offers a multiple of it without waiting for answers. It prints the answers and their times, memory,
 * and the time until the service has recovered.
 */
import { readFileSync } from 'node:fs'
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Redis } from 'ioredis'
import { createDatabase } from '../test/support/database.ts'
import { until } from '../test/support/until.ts'
import { endChildren } from './children.ts'
import { type Answer, addCustomers, cartOf, openClient } from './customers.ts'
import { addProducts, environment, startDownstreams, startServer } from './shop.ts'

const { values: options } = parseArgs({ options: { minutes: { type: 'string', default: '10' }, times: { type: 'string', default: '4' } } })
const CUSTOMERS = 4096
const TICK_MS = 10
const SAMPLE_MS = 5000
/** The concurrency at which the service reaches its sustained rate; more customers only wait longer. */
const AT_ONCE = 64
const MEASURE_S = 15

const database = await createDatabase()
const redis = new Redis(process.env.REDIS_URL!)

const rssMb = (pid: number) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1024
const redisMb = async () => Number(/used_memory:(\d+)/.exec(await redis.info('memory'))?.[1]) / 1024 ** 2

try {
  const downstreams = await startDownstreams()
  await addProducts(downstreams, CUSTOMERS)
  const tokens = await addCustomers(
    'bench',
    Array.from({ length: CUSTOMERS }, (_, i) => cartOf(1 + i)),
  )
  const service = await startServer(['src/main.ts'], { ...environment(database.dsn, downstreams), LOG_LEVEL: 'error' })
  const client = openClient(service.url)
  let next = 0
  const checkout = () => client.checkout(tokens[(next = (next + 1) % CUSTOMERS)]!)

  /** Runs at the sustained concurrency. @returns checkouts a second */
  async function sustained(seconds: number): Promise<number> {
    const end = performance.now() + seconds * 1000
    let served = 0
    const one = async () => {
      while (performance.now() < end) if ((await checkout()).status === 200) served += 1
    }
    await Promise.all(Array.from({ length: AT_ONCE }, one))
    return served / seconds
  }

  await sustained(MEASURE_S) // warms up
  const before = await sustained(MEASURE_S)
  const offered = before * Number(options.times)
  console.log(`sustained: ${before.toFixed(0)} checkouts/s; offered for ${options.minutes} min: ${offered.toFixed(0)}/s`)

  // A list of half a million answers would cause long garbage collections here, which would delay customers.
  const answered = new Map<number, RecordableHistogram>()
  let answers = 0
  const record = ({ status, ms }: Answer) => {
    answers += 1
    const times = answered.get(status) ?? createHistogram()
    answered.set(status, times)
    times.record(Math.max(1, Math.round(ms * 1000)))
  }
  const memory: { at: number; rss: number; redis: number }[] = []
  const sampling: Promise<unknown>[] = []
  const began = performance.now()
  const lastsMs = Number(options.minutes) * 60_000
  let sent = 0
  let sampledAt = Number.NEGATIVE_INFINITY
  while (performance.now() - began < lastsMs) {
    const elapsed = performance.now() - began
    for (; sent < (offered * elapsed) / 1000; sent += 1) void checkout().then(record)
    if (elapsed - sampledAt >= SAMPLE_MS) {
      sampledAt = elapsed
      sampling.push(redisMb().then((mb) => memory.push({ at: elapsed, rss: rssMb(service.pid), redis: mb })))
    }
    await sleep(TICK_MS)
  }
  const endedAt = performance.now()
  let recoveredS = Number.NaN
  // Waiting checkouts are served or refused within the budget. After that the rate of each second is compared.
  while (Number.isNaN(recoveredS) && performance.now() - endedAt < 60_000) {
    const rate = await sustained(1)
    if (rate >= before * 0.9) recoveredS = (performance.now() - endedAt) / 1000
  }
  await Promise.all(sampling)
  await until(
    () => answers,
    (count) => count === sent,
    30_000,
  )

  for (const [status, times] of [...answered].sort(([a], [b]) => a - b)) {
    const shown = [50, 99, 99.9, 99.99].map((percent) => `p${percent} ${(times.percentile(percent) / 1000).toFixed(1)} ms`).join('  ')
    console.log(
      `${status === 0 ? 'broken' : status}: ${String(times.count).padStart(8)}  ${shown}  max ${(times.max / 1000).toFixed(0)} ms`,
    )
  }
  const served = answered.get(200)?.count ?? 0
  console.log(`served under overload: ${(served / (lastsMs / 1000)).toFixed(0)}/s`)
  const sixths = Array.from({ length: 6 }, (_, i) => memory.filter(({ at }) => Math.min(5, Math.floor((at / lastsMs) * 6)) === i))
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
  for (const name of ['rss', 'redis'] as const) {
    console.log(
      `${name} MB, mean of each sixth of the run: ${sixths.map((some) => mean(some.map((one) => one[name])).toFixed(0)).join(' ')}`,
    )
  }
  console.log(`at full speed (90 % of before) again after ${recoveredS.toFixed(1)} s`)
  client.close()
} finally {
  redis.disconnect()
  await endChildren()
  await database.drop()
}
