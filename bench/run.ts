/**
 * The service beside the handler that does everything itself (`inline.ts`), each in one process, on the same PostgreSQL, Redis and
 * stub neighbours that answer at once. Runs alternate, and medians are printed: `bin/bench [--rounds 3] [--seconds 8]`.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs, promisify } from 'node:util'
import { createDatabase, query } from '../test/support/database.ts'
import { openAuth } from '../test/support/neighbours/auth.ts'
import { openCart } from '../test/support/neighbours/cart.ts'
import { freePort } from '../test/support/services/ports.ts'
import { demoAddress } from '../test/support/shop.ts'
import { until } from '../test/support/until.ts'
import { endChildren, startChild } from './children.ts'
import { type Cpu, openCpu } from './cpu.ts'

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '8' },
    connections: { type: 'string', default: '1,64' },
  },
})
const CUSTOMERS = 512
const PRODUCTS = 1000

interface Figures {
  requests: number
  seconds: number
  p50Ms: number
  p99Ms: number
  maxMs: number
  notOk: number
  broken: number
}

/** A process of the service, or of its twin. */
interface Server {
  url: string
  pid: number
}

const run = promisify(execFile)
const directory = mkdtempSync(join(tmpdir(), 'order-bench-'))
const database = await createDatabase()
const cpu = await openCpu({ dsn: database.dsn, redisUrl: process.env.REDIS_URL! })

async function startServer(script: string): Promise<Server> {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const child = startChild([script], { ...environment, PORT: String(port) })
  child.stdout!.resume()
  const answers = async () =>
    fetch(`${url}/order/ready`).then(
      (response) => response.status !== 503,
      () => false,
    )
  await until(answers, (ready) => ready)
  return { url, pid: child.pid! }
}

/** @returns what wrk saw, and the CPU time that each process spent meanwhile, in us a checkout */
async function wrk({ url, pid }: Server, connections: number, seconds: number): Promise<Figures & { cpu: Cpu }> {
  const from = String(Math.floor(Math.random() * CUSTOMERS))
  const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '15s', '-s', 'bench/checkout.lua', url]
  const before = cpu(pid)
  const { stdout } = await run('wrk', [...args, '--', tokens, JSON.stringify(demoAddress), from])
  const figures = JSON.parse(stdout.trim().split('\n').at(-1)!) as Figures
  if (figures.notOk > 0 || figures.broken > 0) throw new Error(`not every checkout succeeded: ${JSON.stringify(figures)}`)
  const after = cpu(pid)
  const spent = (name: keyof Cpu) => (after[name] - before[name]) / figures.requests
  return { ...figures, cpu: { node: spent('node'), postgres: spent('postgres'), redis: spent('redis') } }
}

const median = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!

const neighbours = startChild(['test/support/neighbours/main.ts', '--instant'])
const { value: line } = await createInterface({ input: neighbours.stdout! })[Symbol.asyncIterator]().next()
const bases = JSON.parse(String(line)) as { catalog: string; shipping: string; control: string }
const environment = {
  POSTGRES_DSN: database.dsn,
  CATALOG_BASE: bases.catalog,
  SHIPPING_BASE: bases.shipping,
  TOPIC_ORDER_EVENTS: `bench.${process.pid}`,
  REDIS_PREFIX: `{bench-${process.pid}}`,
  HOST: '127.0.0.1',
}
const tokens = join(directory, 'tokens')

try {
  const auth = await openAuth({ jwtSecret: 'devsecret' })
  const emails = Array.from({ length: CUSTOMERS }, (_, i) => `bench-${i}@example.com`)
  writeFileSync(tokens, emails.map((sub) => auth.token({ sub })).join('\n'))
  await auth.stop()
  const cart = openCart(process.env.REDIS_URL, () => undefined)
  const ids: number[] = []
  for (let i = 0; i < PRODUCTS; i += 1) {
    const response = await fetch(`${bases.control}/catalog/products`, { method: 'POST', body: JSON.stringify({ stock: 1_000_000_000 }) })
    ids.push(((await response.json()) as { id: number }).id)
  }
  // Two lines a cart, of products that 512 customers rarely share.
  await cart.fillAll(
    emails.map((email, i) => ({
      email,
      lines: [i * 2, i * 2 + 1].map((n) => ({ product_id: ids[n % PRODUCTS]!, qty: 1, unit_price_cents: 1299, title: 'Air Zoom' })),
    })),
  )
  await cart.stop()

  const ours = await startServer('src/main.ts')
  const inline = await startServer('bench/inline.ts')
  process.stderr.write('warming up\n')
  // Both get the same. The service has more code to be compiled: in its first 5 s it is at a tenth of its speed, in the next at half.
  for (const server of [ours, inline, ours, inline]) await wrk(server, 32, 10)

  for (const connections of options.connections.split(',').map(Number)) {
    const figures = { ours: [] as Awaited<ReturnType<typeof wrk>>[], inline: [] as Awaited<ReturnType<typeof wrk>>[] }
    for (let round = 0; round < Number(options.rounds); round += 1) {
      figures.inline.push(await wrk(inline, connections, Number(options.seconds)))
      figures.ours.push(await wrk(ours, connections, Number(options.seconds)))
    }
    const of = (name: 'ours' | 'inline', pick: (one: Figures & { cpu: Cpu }) => number) => median(figures[name].map(pick))
    const rate = (name: 'ours' | 'inline') => of(name, (one) => one.requests / one.seconds)
    const cpuOf = (name: 'ours' | 'inline') =>
      (['node', 'postgres', 'redis'] as const).map((process) => `${process} ${of(name, (one) => one.cpu[process]).toFixed(0)}`).join(' ')
    const row = (name: 'ours' | 'inline') =>
      `${String(connections).padStart(4)} connections  ${name.padEnd(6)}  ${rate(name).toFixed(0).padStart(6)}/s` +
      `  p50 ${of(name, (one) => one.p50Ms).toFixed(2)} ms  p99 ${of(name, (one) => one.p99Ms).toFixed(2)} ms  CPU us a checkout: ${cpuOf(name)}`
    console.log(row('inline'))
    console.log(row('ours'))
    console.log(
      `${' '.repeat(18)}ours/inline: throughput ${(rate('ours') / rate('inline')).toFixed(2)},` +
        ` p50 ${(of('ours', (one) => one.p50Ms) / of('inline', (one) => one.p50Ms)).toFixed(2)},` +
        ` p99 ${(of('ours', (one) => one.p99Ms) / of('inline', (one) => one.p99Ms)).toFixed(2)}`,
    )
  }
  const [{ orders, checkouts }] = (await query(
    database.dsn,
    'select (select count(*) from public.orders) as orders, (select count(*) from order_service.checkouts) as checkouts',
  )) as [{ orders: string; checkouts: string }]
  console.log(`${orders} orders stand, ${checkouts} of them by way of the queue`)
} finally {
  await endChildren()
  await database.drop()
  rmSync(directory, { recursive: true })
}
