/** Customers for benchmarks whose load wrk cannot generate. */
import { Agent, request } from 'node:http'
import { openAuth } from '../test/support/downstreams/auth.ts'
import { type CartLine, openCart } from '../test/support/downstreams/cart.ts'
import { demoAddress } from '../test/support/shop.ts'

export interface Answer {
  /** 0 if the connection broke. */
  status: number
  /** The detail of a refusal; empty for an order. */
  detail: string
  ms: number
}

export interface Client {
  checkout(token: string): Promise<Answer>
  close(): void
}

/** A cart with one unit of each product. */
export const cartOf = (...products: number[]): CartLine[] =>
  products.map((product_id) => ({ product_id, qty: 1, unit_price_cents: 1299, title: 'Air Zoom' }))

/** Adds a customer for each cart. @returns their tokens in the same order */
export async function addCustomers(name: string, carts: readonly (readonly CartLine[])[]): Promise<string[]> {
  const emails = carts.map((_, i) => `${name}-${i}@example.com`)
  const cart = openCart(process.env.REDIS_URL, () => undefined)
  await cart.fillAll(emails.map((email, i) => ({ email, lines: carts[i]! })))
  await cart.stop()
  const auth = await openAuth({ jwtSecret: 'devsecret' })
  const tokens = emails.map((sub) => auth.token({ sub }))
  await auth.stop()
  return tokens
}

/** Sends any number of concurrent checkouts. In undici's pool, requests would wait seconds for a connection under load. */
export function openClient(url: string): Client {
  const agent = new Agent({ keepAlive: true, maxFreeSockets: 4096 })
  const body = JSON.stringify(demoAddress)
  const length = Buffer.byteLength(body)
  return {
    checkout(token) {
      const began = performance.now()
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'content-length': length }
      return new Promise((resolve) => {
        const answered = (status: number, detail: string) => resolve({ status, detail, ms: performance.now() - began })
        request(`${url}/order/v1/orders/checkout`, { method: 'POST', agent, headers }, (response) => {
          let text = ''
          response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
          response.on('error', () => {}) // `close` follows
          response.on('close', () => {
            if (!response.complete) return answered(0, 'connection broke')
            answered(response.statusCode!, response.statusCode === 200 ? '' : (/"detail":"(.*?)"/.exec(text)?.[1] ?? text))
          })
        })
          .on('error', ({ message }) => answered(0, message))
          .end(body)
      })
    },
    close: () => agent.destroy(),
  }
}
