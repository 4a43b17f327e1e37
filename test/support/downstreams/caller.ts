/** The order service's side of a call, as the tests of the downstreams play it. */
import { until } from '../until.ts'
import type { Item } from './catalog-stock.ts'

/** What came back; a body that is no JSON stays text. */
export interface Reply {
  status: number
  body: unknown
}

export interface Asking {
  method?: string
  body?: unknown
  headers?: Record<string, string>
  /** The caller goes at this signal; otherwise after a minute. */
  signal?: AbortSignal
}

/** Asks, with a body as JSON, or as it is where it is text. Throws where there is no answer. */
export async function ask(url: string, { method, body, headers = {}, signal = AbortSignal.timeout(60_000) }: Asking = {}): Promise<Reply> {
  const response = await fetch(url, {
    method: method ?? (body === undefined ? 'GET' : 'POST'),
    headers: { 'content-type': 'application/json', ...headers },
    body: body === undefined || typeof body === 'string' ? body : JSON.stringify(body),
    signal,
  })
  const text = await response.text()
  try {
    return { status: response.status, body: JSON.parse(text) as unknown }
  } catch {
    return { status: response.status, body: text }
  }
}

/** Calls for stock with the right key, unless told otherwise. */
export function callStock(base: string, verb: string, items: readonly Item[], { headers, ...asking }: Asking = {}): Promise<Reply> {
  return ask(`${base}/catalog/v1/inventory/${verb}`, { body: { items }, headers: { 'x-internal-key': 'devkey', ...headers }, ...asking })
}

/** A shipment that Shipping takes, with changes. */
export function callShipment(base: string, changes: Record<string, unknown> = {}, asking: Asking = {}): Promise<Reply> {
  const body = {
    order_id: 123,
    user_email: 'cust@example.com',
    address_line1: '1 Demo Street',
    address_line2: '',
    city: 'Dublin',
    country: 'IE',
    postcode: 'D01XYZ',
    ...changes,
  }
  return ask(`${base}/shipping/v1/shipments`, { body, ...asking })
}

/** The code or name of why there was no answer. */
export async function noAnswer(call: Promise<Reply>): Promise<string> {
  try {
    const { status } = await call
    return `answered ${status}`
  } catch (error) {
    const { name, cause } = error as Error & { cause?: { code?: string } }
    return cause?.code ?? name
  }
}

/** A call whose caller goes once it has arrived: once this is so. */
export async function gone(call: (signal: AbortSignal) => Promise<Reply>, hasArrived: () => boolean): Promise<string> {
  const caller = new AbortController()
  const outcome = noAnswer(call(caller.signal))
  await until(hasArrived)
  caller.abort()
  return outcome
}
