/**
 * The downstreams as a process of their own, for demo, development and benchmarks. Prints one line of JSON with their base URLs:
 * `{"catalog","shipping","auth","control"}`, and ends on SIGTERM, or with whoever holds the other end of its stdin.
 */
import { parseArgs } from 'node:util'
import { startDownstreams } from './index.ts'

const number = { type: 'string' } as const
const flag = { type: 'boolean', default: false } as const

const { values } = parseArgs({
  options: {
    instant: flag,
    real: flag,
    exact: flag,
    release: flag,
    seed: number,
    journal: number,
    'first-product-id': number,
    'catalog-port': number,
    'shipping-port': number,
    'auth-port': number,
    'control-port': number,
  },
})

if (values.instant && values.real) throw new TypeError('--instant and --real exclude each other; write one of them')

const downstreams = await startDownstreams({
  instant: values.instant,
  real: values.real,
  exact: values.exact,
  release: values.release,
  internalKey: process.env.SVC_INTERNAL_KEY,
  jwtSecret: process.env.JWT_SECRET,
  seed: integer('seed'),
  journal: integer('journal'),
  firstProductId: integer('first-product-id'),
  ports: {
    catalog: integer('catalog-port'),
    shipping: integer('shipping-port'),
    auth: integer('auth-port'),
    control: integer('control-port'),
  },
})

const { catalogBase, shippingBase, authBase, controlBase } = downstreams
process.stdout.write(`${JSON.stringify({ catalog: catalogBase, shipping: shippingBase, auth: authBase, control: controlBase })}\n`)

// A parent that is killed takes its pipe with it: nothing is left running. The process itself ends with its last handle.
process.stdin.once('close', stop).resume()
process.once('SIGTERM', stop)
process.once('SIGINT', stop)

function stop(): void {
  process.stdin.destroy()
  void downstreams.stop()
}

function integer(
  option: 'seed' | 'journal' | 'first-product-id' | `${'catalog' | 'shipping' | 'auth' | 'control'}-port`,
): number | undefined {
  const text = values[option]
  if (text === undefined) return undefined
  if (!/^\d+$/.test(text)) throw new TypeError(`--${option} is not a whole number: "${text}"; write --${option}=4000`)
  return Number(text)
}
