/**
 * Compares the service with an inline handler (`inline.ts`). Each runs in one process with its own database, on the same PostgreSQL and
 * Redis, with the same stubs of Catalog and Shipping. Runs alternate; it prints medians and ratios:
 *
 *     bin/bench [--downstreams instant|real] [--carts spread|hot|mix] [--connections 1,64] [--rounds 3] [--seconds 8]
 *
 * `spread`: each customer buys his own products. `hot`: all buy one product. `mix`: one customer in five buys the hot product. `hot` and
 * `mix` also run spread carts in the same rounds. The inline handler loses holds of a hot product if Catalog is slow.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { createDatabase, query } from '../test/support/database.ts'
import { demoAddress } from '../test/support/shop.ts'
import { until } from '../test/support/until.ts'
import { endChildren } from './children.ts'
import { type Counter, openCounter } from './counts.ts'
import { type Cpu, openCpu } from './cpu.ts'
import { addCustomers, cartOf } from './customers.ts'
import { addProducts, downstreamKinds, environment, numbers, oneOf, type Server, startDownstreams, startServer } from './shop.ts'
import { median, ratioLine } from './statistics.ts'

const { values: options } = parseArgs({
  options: {
    downstreams: { type: 'string', default: 'instant' },
    carts: { type: 'string', default: 'spread' },
    connections: { type: 'string', default: '1,64' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '8' },
  },
})
const kind = oneOf('downstreams', options.downstreams, downstreamKinds)
const carts = oneOf('carts', options.carts, ['spread', 'hot', 'mix'])
const crowds = numbers('connections', options.connections)
const [rounds, seconds] = [...numbers('rounds', options.rounds), ...numbers('seconds', options.seconds)] as [number, number]
if (carts === 'mix' && Math.min(...crowds) < 5)
  throw new TypeError(`--connections is "${options.connections}"; --carts mix needs 5 or more, since one in five buys the hot product`)

const CUSTOMERS = 512
/** The hot product, and two products for each customer. */
const PRODUCTS = 1 + 2 * CUSTOMERS
const WARM_UP_S = 10
/** By then all checkouts of a run have ended: the budget is 8 s. */
const QUIET_WITHIN_MS = 20_000

/** The figures of wrk for a group of customers. */
interface Figures {
  requests: number
  seconds: number
  p50Ms: number
  p99Ms: number
  notOk: number
  broken: number
}

/** Customers, as a file of tokens, and their concurrency. */
interface Group {
  tokens: string
  connections: number
}

/** A run. CPU time in us, PostgreSQL's counts and Redis commands are per checkout. */
interface Run {
  perSecond: number
  /** Percentage of answers that are not orders. */
  refused: number
  groups: Figures[]
  cpu: Cpu
  postgres: number
  redis: number
}

/** A server with its own database. */
interface Seller extends Server {
  dsn: string
  counter: Counter
}

type Selling = 'spread' | 'hot' | 'mix'
type Name = 'inline' | 'ours'
const names: readonly Name[] = ['inline', 'ours']
const sellings: readonly Selling[] = carts === 'spread' ? ['spread'] : ['spread', carts]

const run = promisify(execFile)
const directory = mkdtempSync(join(tmpdir(), 'order-bench-'))
const databases = { inline: await createDatabase(), ours: await createDatabase() }
const cpu = await openCpu({ dsn: databases.ours.dsn, redisUrl: process.env.REDIS_URL! })
const counters: Counter[] = []

/** Adds customers and writes their tokens to a file. @returns its path */
async function addGroup(name: string, from: number, to: number, productsOf: (customer: number) => number[]): Promise<string> {
  const tokens = await addCustomers(
    `bench-${name}`,
    Array.from({ length: to - from }, (_, i) => cartOf(...productsOf(from + i))),
  )
  const path = join(directory, name)
  writeFileSync(path, tokens.join('\n'))
  return path
}

/** Adds the customers for each kind of run. The unrelated customers come first. */
async function addGroups(): Promise<(selling: Selling, connections: number) => Group[]> {
  const hot = () => [1]
  // Hot carts have one line, so the ordinary ones beside them have one too, and only the product differs.
  const own = (i: number) => (carts === 'hot' ? [2 + i] : [2 + 2 * i, 3 + 2 * i])
  const split = carts === 'mix' ? Math.round(CUSTOMERS * 0.8) : CUSTOMERS
  const unrelated = await addGroup('spread', 0, split, own)
  const fifth = await addGroup('spread-fifth', split, CUSTOMERS, own)
  const buyers = await addGroup('hot', 0, carts === 'mix' ? CUSTOMERS - split : CUSTOMERS, hot)
  return (selling, connections) => {
    if (carts !== 'mix') return [{ tokens: selling === 'hot' ? buyers : unrelated, connections }]
    const apart = Math.round(connections / 5)
    return [
      { tokens: unrelated, connections: connections - apart },
      { tokens: selling === 'mix' ? buyers : fifth, connections: apart },
    ]
  }
}

async function startSeller(script: string, dsn: string, env: Record<string, string>): Promise<Seller> {
  const counter = await openCounter({ dsn, redisUrl: process.env.REDIS_URL! })
  counters.push(counter)
  return { ...(await startServer([script], { ...env, POSTGRES_DSN: dsn })), dsn, counter }
}

async function wrk(url: string, { tokens, connections }: Group, lastsS: number): Promise<Figures> {
  const from = String(Math.floor(Math.random() * CUSTOMERS))
  const args = ['-t1', `-c${connections}`, `-d${lastsS}s`, '--timeout', '15s', '-s', 'bench/checkout.lua', url]
  const { stdout } = await run('wrk', [...args, '--', tokens, JSON.stringify(demoAddress), from], { timeout: (lastsS + 60) * 1000 })
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as Figures
}

/** Runs all groups at the same time. Resolves once all their checkouts have ended. */
async function sell({ url, pid, dsn, counter }: Seller, groups: readonly Group[], lastsS: number): Promise<Run> {
  const before = { cpu: cpu(pid), counts: await counter.read() }
  const figures = await Promise.all(groups.map((group) => wrk(url, group, lastsS)))
  const after = { cpu: cpu(pid), counts: await counter.read() }
  const total = (of: (one: Figures) => number) => figures.reduce((sum, one) => sum + of(one), 0)
  const orders = total(({ requests, notOk }) => requests - notOk)
  const spent = (name: keyof Cpu) => (after.cpu[name] - before.cpu[name]) / orders
  const open = () => query<{ n: number }>(dsn, "select count(*)::int as n from order_service.checkouts where state = 'OPEN'")
  await until(open, ([left]) => left!.n === 0, QUIET_WITHIN_MS)
  return {
    perSecond: total((one) => (one.requests - one.notOk) / one.seconds),
    refused: (total(({ notOk, broken }) => notOk + broken) / total(({ requests, broken }) => requests + broken)) * 100,
    groups: figures,
    cpu: { node: spent('node'), postgres: spent('postgres'), redis: spent('redis') },
    postgres: (after.counts.postgres - before.counts.postgres) / orders,
    redis: (after.counts.redis - before.counts.redis) / orders,
  }
}

const latencies = (runs: readonly Run[], group: number) =>
  `p50 ${median(runs.map(({ groups }) => groups[group]!.p50Ms)).toFixed(2)} ms  p99 ${median(runs.map(({ groups }) => groups[group]!.p99Ms)).toFixed(2)} ms`

function row(connections: number, selling: Selling, name: Name, runs: readonly Run[], { unit }: Counter): string {
  const of = (pick: (one: Run) => number, digits: number) => median(runs.map(pick)).toFixed(digits)
  const refused = Math.max(...runs.map((one) => one.refused))
  return [
    `${String(connections).padStart(4)} connections  ${selling.padEnd(6)}  ${name.padEnd(6)}`,
    `${of((one) => one.perSecond, 0).padStart(6)}/s`,
    selling === 'mix' ? `${latencies(runs, 0)} (buyers of the hot product ${latencies(runs, 1)})` : latencies(runs, 0),
    `CPU us per checkout: node ${of((one) => one.cpu.node, 0)} postgres ${of((one) => one.cpu.postgres, 0)} redis ${of((one) => one.cpu.redis, 0)}`,
    `PostgreSQL ${unit} ${of((one) => one.postgres, 2)}  Redis commands ${of((one) => one.redis, 1)}`,
    ...(refused > 0 ? [`up to ${refused.toFixed(1)} % REFUSED`] : []),
  ].join('  ')
}

/** The runs of all rounds by kind and server. */
type Series = Record<Selling, Record<Name, Run[]>>

function ratios(connections: number, series: Series): string[] {
  const lines: string[] = []
  const at = (selling?: Selling) => [`at ${connections}`, kind, ...(selling ? [selling] : [])].join(', ')
  const rate = (one: Run) => one.perSecond
  const p50 = (one: Run) => one.groups[0]!.p50Ms
  const p99 = (one: Run) => one.groups[0]!.p99Ms
  const unrelated = carts === 'mix' ? ' of unrelated customers' : ''
  for (const selling of sellings) {
    const { ours, inline } = series[selling]
    lines.push(
      ratioLine(`ours/inline throughput ${at(selling)}`, ours.map(rate), inline.map(rate)),
      ratioLine(`ours/inline p50${unrelated} ${at(selling)}`, ours.map(p50), inline.map(p50)),
      ratioLine(`ours/inline p99${unrelated} ${at(selling)}`, ours.map(p99), inline.map(p99)),
    )
  }
  if (carts === 'spread') return lines
  for (const name of names) {
    const { spread, [carts]: other } = series
    lines.push(ratioLine(`${carts}/spread throughput ${at()}, ${name}`, other[name].map(rate), spread[name].map(rate)))
    if (carts === 'mix') lines.push(ratioLine(`mix/spread p99${unrelated} ${at()}, ${name}`, other[name].map(p99), spread[name].map(p99)))
  }
  return lines
}

try {
  const downstreams = await startDownstreams(kind)
  await addProducts(downstreams, PRODUCTS)
  const groups = await addGroups()
  const env = environment(databases.ours.dsn, downstreams)
  const sellers: Record<Name, Seller> = {
    ours: await startSeller('src/main.ts', databases.ours.dsn, env),
    inline: await startSeller('bench/inline.ts', databases.inline.dsn, env),
  }

  process.stderr.write('warming up\n')
  // The same for both. The service has more code to compile: it runs at a tenth of its speed in the first 5 s, at half in the next 5 s.
  for (let twice = 0; twice < 2; twice += 1) {
    for (const selling of sellings) {
      for (const name of names) await sell(sellers[name], groups(selling, 32), WARM_UP_S / sellings.length)
    }
  }

  const lines: string[] = []
  for (const connections of crowds) {
    const nothing = () => ({ inline: [], ours: [] })
    const series: Series = { spread: nothing(), hot: nothing(), mix: nothing() }
    for (let round = 0; round < rounds; round += 1) {
      for (const selling of sellings) {
        for (const name of names) series[selling][name].push(await sell(sellers[name], groups(selling, connections), seconds))
      }
    }
    for (const selling of sellings) {
      for (const name of names) console.log(row(connections, selling, name, series[selling][name], sellers[name].counter))
    }
    lines.push(...ratios(connections, series))
  }
  for (const name of names) {
    const [all] = await query<{ n: number }>(sellers[name].dsn, 'select count(*)::int as n from public.orders')
    console.log(`${name}: ${all!.n} orders`)
  }
  console.log(lines.join('\n'))
} finally {
  await endChildren()
  await Promise.all(counters.map((counter) => counter.close()))
  await Promise.all(Object.values(databases).map((database) => database.drop()))
  rmSync(directory, { recursive: true })
}
