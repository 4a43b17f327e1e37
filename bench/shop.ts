/** What the benchmarks sell in: Catalog and Shipping, products, and processes of the service. */
import { createInterface } from 'node:readline'
import { freePort } from '../test/support/services/ports.ts'
import { until } from '../test/support/until.ts'
import { startChild } from './children.ts'

/** `instant`: they answer at once. `real`: with the latencies and limits that were measured at the real ones. */
export const downstreamKinds = ['instant', 'real'] as const
export type DownstreamKind = (typeof downstreamKinds)[number]

/** Base URLs of the stubs; `control` is where they are told what to do. */
export interface Downstreams {
  catalog: string
  shipping: string
  control: string
}

/** A process of the service, or of its twin. */
export interface Server {
  url: string
  pid: number
}

/** The option's value, where it is one of those that there are. */
export function oneOf<const Word extends string>(option: string, value: string, words: readonly Word[]): Word {
  const word = words.find((one) => one === value)
  if (word === undefined) throw new TypeError(`--${option} is "${value}"; write one of ${words.join(', ')}`)
  return word
}

/** The option's value as numbers of 1 or more: `1,64`. */
export function numbers(option: string, value: string): number[] {
  if (!/^[1-9]\d*(,[1-9]\d*)*$/.test(value)) throw new TypeError(`--${option} is "${value}"; write whole numbers, as in --${option} 1,64`)
  return value.split(',').map(Number)
}

/** @param kind where it is left out, calls take a few ms however many there are */
export async function startDownstreams(kind?: DownstreamKind): Promise<Downstreams> {
  const child = startChild(['test/support/downstreams/main.ts', ...(kind ? [`--${kind}`] : [])])
  const { value: line } = await createInterface({ input: child.stdout! })[Symbol.asyncIterator]().next()
  return JSON.parse(String(line)) as Downstreams
}

/** Tells the stubs something. @returns what they answer, if anything */
export async function control({ control: base }: Downstreams, method: string, path: string, body?: object): Promise<unknown> {
  const response = await fetch(base + path, { method, body: body && JSON.stringify(body) })
  const text = await response.text()
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
  return text === '' ? undefined : JSON.parse(text)
}

/** Products 1, 2, … with more stock than can be sold. @param reserved units of each that are held from the beginning */
export async function addProducts(downstreams: Downstreams, count: number, reserved: (id: number) => number = () => 0): Promise<void> {
  for (let id = 1; id <= count; id += 1) {
    await control(downstreams, 'POST', '/catalog/products', { id, stock: 1_000_000_000, reserved: reserved(id) })
  }
}

/** In what others may use too, this run has names of its own. */
const name = `bench.${process.pid}`
export const paymentTopic = `${name}.payments`

/** The environment of all processes of one service. */
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

/** @param args the script, and what it is to run. What it logs is shown where `LOG_LEVEL` says how much. @returns once it is ready */
export async function startServer(args: string[], env: Record<string, string>): Promise<Server> {
  const port = String(await freePort())
  const child = startChild(args, { ...env, PORT: port, METRICS_PORT: port })
  if (env.LOG_LEVEL) child.stdout!.pipe(process.stderr)
  else child.stdout!.resume()
  const url = `http://127.0.0.1:${port}`
  const ask = () =>
    fetch(`${url}/order/ready`).then(
      ({ status }) => status,
      () => 503,
    )
  await until(ask, (status) => status !== 503)
  return { url, pid: child.pid! }
}
