/**
 * Times the operators' pages over a million orders (`orders-fill.sql`), and what they cost customers:
 *
 *     bin/bench-pages [--requests 30] [--rounds 6] [--seconds 8] [--connections 16] [--per-second 2]
 *
 * First each page is requested alone, then while customers check out. Then runs of checkouts without and with page requests alternate.
 * Two pages a second are ten that are open and refresh themselves. Bars: a p95 under 300 ms, and a throughput ratio above 0.95.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs, promisify } from 'node:util'
import { Client } from 'pg'
import { createDatabase } from '../test/support/database.ts'
import { openAuth } from '../test/support/downstreams/auth.ts'
import { demoAddress } from '../test/support/shop.ts'
import { endChildren } from './children.ts'
import { addCustomers, cartOf } from './customers.ts'
import { addProducts, environment, numbers, startDownstreams, startServer } from './shop.ts'
import { percentile, ratioLine } from './statistics.ts'

const { values: options } = parseArgs({
  options: {
    requests: { type: 'string', default: '30' },
    rounds: { type: 'string', default: '6' },
    seconds: { type: 'string', default: '8' },
    connections: { type: 'string', default: '16' },
    'per-second': { type: 'string', default: '2' },
  },
})
const numberOf = (name: keyof typeof options): number => numbers(name, options[name])[0]!
const [requests, rounds, seconds, connections, perSecond] = [
  numberOf('requests'),
  numberOf('rounds'),
  numberOf('seconds'),
  numberOf('connections'),
  numberOf('per-second'),
]

const CUSTOMERS = 512
const BAR_MS = 300

/** Below /order/admin. Orders and products are those of `orders-fill.sql`. */
const pages = [
  '',
  '/orders',
  '/orders?state=OPEN',
  '/orders?state=CREATED',
  '/orders?state=PAID',
  '/orders?state=REJECTED',
  '/orders?state=CANCELLED',
  '/orders?cause=downstream-timeout',
  '/orders?cause=downstream-error&service=shipping',
  '/orders?cause=downstream-timeout&state=PAID',
  '/orders?cause=internal-error',
  '/orders?product=1',
  '/orders?product=77',
  '/orders?product=77&state=REJECTED',
  '/orders?product=4999999',
  '/orders?olderThan=86400',
  '/orders?olderThan=864000&state=CREATED',
  '/orders?olderThan=86400&product=1',
  '/orders?service=shipping&state=PAID',
  '/orders?q=customer-77@example.com',
  '/orders?q=key-800077',
  '/orders?q=payment-800077',
  '/orders?q=800077',
  '/orders?q=nothing',
  '/orders?after=500000',
  '/orders/960001',
  '/orders/800077',
  '/orders/200020',
  '/orders/80',
  '/problems/downstream-timeout?service=catalog',
  '/problems/downstream-error?service=shipping',
  '/problems/payment-mismatch',
  '/dead-letters',
  '/dead-letters/1',
  '/inventory',
  '/inventory/100',
  '/actions',
]

const run = promisify(execFile)
const directory = mkdtempSync(join(tmpdir(), 'order-bench-pages-'))
const database = await createDatabase()

async function fill(): Promise<void> {
  const client = new Client({ connectionString: database.dsn })
  await client.connect()
  const statements = readFileSync(new URL('orders-fill.sql', import.meta.url), 'utf8').split(/;\n/)
  for (const statement of statements) if (statement.trim() !== '') await client.query(statement)
  await client.end()
}

interface Sold {
  requests: number
  seconds: number
  notOk: number
  broken: number
}

/** Checkouts a second that became orders. */
async function sell(url: string, tokens: string, lastsS: number): Promise<number> {
  const from = String(Math.floor(Math.random() * CUSTOMERS))
  const args = ['-t1', `-c${connections}`, `-d${lastsS}s`, '--timeout', '15s', '-s', 'bench/checkout.lua', url]
  const { stdout } = await run('wrk', [...args, '--', tokens, JSON.stringify(demoAddress), from], { timeout: (lastsS + 60) * 1000 })
  const sold = JSON.parse(stdout.trim().split('\n').at(-1)!) as Sold
  if (sold.notOk + sold.broken > 0) console.log(`${sold.notOk} answers were no orders, ${sold.broken} connections broke`)
  return (sold.requests - sold.notOk) / sold.seconds
}

type Ask = (path: string) => Promise<{ status: number; ms: number }>

function asker(url: string, token: string): Ask {
  const headers = { authorization: `Bearer ${token}`, accept: 'application/json' }
  return async (path) => {
    const began = performance.now()
    const answer = await fetch(`${url}/order/admin${path}`, { headers })
    await answer.arrayBuffer()
    return { status: answer.status, ms: performance.now() - began }
  }
}

type Times = Map<string, number[]>

/** Each page in turn, one request at a time. */
async function timed(ask: Ask, known: readonly string[]): Promise<Times> {
  const times: Times = new Map(known.map((path) => [path, []]))
  for (let i = 0; i < requests; i += 1) {
    for (const path of known) {
      const { status, ms } = await ask(path)
      if (status !== 200) throw new Error(`${path} was answered with ${status}`)
      times.get(path)!.push(ms)
    }
  }
  return times
}

/** While a promise is pending, so many pages a second. A page that takes longer delays the next. */
async function request(ask: Ask, known: readonly string[], until: Promise<unknown>): Promise<void> {
  const over = new AbortController()
  const end = until.finally(() => over.abort())
  for (let i = 0; !over.signal.aborted; i += 1)
    await Promise.all([ask(known[i % known.length]!), Promise.race([sleep(1000 / perSecond), end])])
}

const p95 = (times: readonly number[]) => percentile(times, 95)

function report(name: string, times: Times): void {
  console.log(`\n${name}, ${requests} requests each:`)
  for (const [path, all] of times) {
    const mark = p95(all) > BAR_MS ? `  ABOVE ${BAR_MS} ms` : ''
    console.log(
      `${`/order/admin${path}`.padEnd(66)} p50 ${percentile(all, 50).toFixed(0).padStart(4)} ms  p95 ${p95(all).toFixed(0).padStart(4)} ms${mark}`,
    )
  }
  const worst = Math.max(...[...times.values()].map(p95))
  console.log(`worst p95: ${worst.toFixed(0)} ms`)
}

try {
  process.stderr.write('filling 1,000,000 orders\n')
  await fill()
  const downstreams = await startDownstreams('instant')
  await addProducts(downstreams, 1 + 2 * CUSTOMERS)
  const carts = Array.from({ length: CUSTOMERS }, (_, i) => cartOf(2 + 2 * i, 3 + 2 * i))
  const tokens = join(directory, 'tokens')
  writeFileSync(tokens, (await addCustomers('bench', carts)).join('\n'))
  const auth = await openAuth({ jwtSecret: 'devsecret' })
  const operator = auth.token({ sub: 'operator@example.com', role: 'admin' })
  await auth.stop()
  const service = await startServer(['src/main.ts'], environment(database.dsn, downstreams))
  const ask = asker(service.url, operator)

  process.stderr.write('warming up\n')
  await sell(service.url, tokens, 15)
  const known: string[] = []
  for (const path of pages) {
    const { status } = await ask(path)
    if (status === 200) known.push(path)
    else console.log(`/order/admin${path} was answered with ${status}, and is not timed`)
  }

  report('Without customers', await timed(ask, known))
  const over = new AbortController()
  const selling = (async () => {
    while (!over.signal.aborted) await sell(service.url, tokens, 4)
  })()
  const times = await timed(ask, known)
  over.abort()
  await selling
  report(`With checkouts at ${connections} connections, pages without a pause`, times)

  const alone: number[] = []
  const beside: number[] = []
  for (let round = 0; round < rounds; round += 1) {
    alone.push(await sell(service.url, tokens, seconds))
    const sold = sell(service.url, tokens, seconds)
    await request(ask, known, sold)
    beside.push(await sold)
  }
  console.log(`\nCheckouts a second at ${connections} connections: ${alone.map(Math.round).join(', ')} without pages`)
  console.log(`and ${beside.map(Math.round).join(', ')} with ${perSecond} pages a second`)
  console.log(ratioLine('with pages/without pages', beside, alone))
} finally {
  await endChildren()
  await database.drop()
  rmSync(directory, { recursive: true })
}
