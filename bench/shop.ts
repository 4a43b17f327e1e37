/** What the benchmarks use: stubs of Catalog and Shipping, products, and processes of the service. */
import { createInterface } from 'node:readline'
import { freePort } from '../test/support/services/ports.ts'
import { until } from '../test/support/until.ts'
import { startChild } from './children.ts'

/** `instant`: the stubs answer at once. `real`: with the latencies and limits measured at the real services. */
export const downstreamKinds = ['instant', 'real'] as const
export type DownstreamKind = (typeof downstreamKinds)[number]

/** Base URLs of the stubs. `control` configures them. */
export interface Downstreams {
  catalog: string
  shipping: string
  control: string
}

/** A process of the service or of the inline handler. */
export interface Server {
  url: string
  pid: number
}

/** @returns the option's value. @throws TypeError if it is not one of `words` */
export function oneOf<const Word extends string>(option: string, value: string, words: readonly Word[]): Word {
  const word = words.find((one) => one === value)
  if (word === undefined) throw new TypeError(`--${option} is "${value}"; write one of ${words.join(', ')}`)
  return word
}

/** @returns the option's value as numbers of 1 or more, as in `1,64`. @throws TypeError */
export function numbers(option: string, value: string): number[] {
  if (!/^[1-9]\d*(,[1-9]\d*)*$/.test(value)) throw new TypeError(`--${option} is "${value}"; write whole numbers, as in --${option} 1,64`)
  return value.split(',').map(Number)
}

/** @param kind by default calls take a few ms at any concurrency */
export async function startDownstreams(kind?: DownstreamKind): Promise<Downstreams> {
  const child = startChild(['test/support/downstreams/main.ts', ...(kind ? [`--${kind}`] : [])])
  const { value: line } = await createInterface({ input: child.stdout! })[Symbol.asyncIterator]().next()
  return JSON.parse(String(line)) as Downstreams
}

/** Sends a request to the stubs' control API. @returns its answer */
export async function control({ control: base }: Downstreams, method: string, path: string, body?: object): Promise<unknown> {
  const response = await fetch(base + path, { method, body: body && JSON.stringify(body) })
  const text = await response.text()
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
  return text === '' ? undefined : JSON.parse(text)
}

/** Adds products 1, 2, … with more stock than can be sold. @param reserved units of each product that are already held */
export async function addProducts(downstreams: Downstreams, count: number, reserved: (id: number) => number = () => 0): Promise<void> {
  for (let id = 1; id <= count; id += 1) {
    await control(downstreams, 'POST', '/catalog/products', { id, stock: 1_000_000_000, reserved: reserved(id) })
  }
}

/** Names of this run on servers that others may share. */
const name = `bench.${process.pid}`
export const paymentTopic = `${name}.payments`

/** The environment that all processes of a service share. */
export function environment(dsn: string, { catalog, shipping }: Downstreams): Record<string, string> {
  return {
    HOST: '127.0.0.1',
    POSTGRES_DSN: dsn,
    REDIS_PREFIX: `{${name}}`,
    TOPIC_ORDER_EVENTS: `${name}.orders`,
    TOPIC_PAYMENT_EVENTS: paymentTopic,
    TOPIC_PAYMENT_EVENTS_DLQ: `${paymentTopic}.dlq`,
    KAFKA_GROUP: name,
    CATALOG_BASE: catalog,
    SHIPPING_BASE: shipping,
  }
}

/** Resolves once the process is ready. Shows its log if `LOG_LEVEL` is set. @param args the script and its arguments */
export async function startServer(args: string[], env: Record<string, string>): Promise<Server> {
  const port = String(await freePort())
  const child = startChild(args, { ...env, PORT: port, METRICS_PORT: port })
  if (env.LOG_LEVEL) child.stdout!.pipe(process.stderr)
  else child.stdout!.resume()
  const url = `http://127.0.0.1:${port}`
  const readyStatus = () =>
    fetch(`${url}/order/ready`).then(
      ({ status }) => status,
      () => 503,
    )
  await until(readyStatus, (status) => status !== 503)
  return { url, pid: child.pid! }
}
