/** Answers of a gateway before a neighbour: the call may have got through, and is one without an answer. */
import test from 'ava'
import { createCatalog } from '../../src/clients/catalog.ts'
import { createNeighbour, NoAnswer } from '../../src/clients/http.ts'
import { createShipping } from '../../src/clients/shipping.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { type Neighbours, startNeighbours } from '../support/neighbours/index.ts'
import { demoAddress } from '../support/shop.ts'

let neighbours: Neighbours
test.before(async () => {
  neighbours = await startNeighbours({ instant: true })
})
test.after.always(() => neighbours?.stop())

const neighbour = (name: string, base: string) =>
  createNeighbour({ name, base, headers: { 'x-internal-key': 'devkey' }, concurrency: 1, timeoutMs: 1000, metrics: createMetrics() })

test.serial('408, 425 and 499 leave open whether Catalog changed its stock; other 4xx are its own, and refusals', async (t) => {
  const http = neighbour('catalog', neighbours.catalogBase)
  const catalog = createCatalog(http)
  const productId = neighbours.catalog.product({ stock: 5 })
  const reserve = () => catalog.change({ verb: 'reserve', items: [{ productId, qty: 1 }], idempotencyKey: 'k' })
  for (const status of [408, 425, 499, 500, 504]) {
    neighbours.catalog.fault({ fault: 'refuse', status, times: 1 })
    t.like(await t.throwsAsync(reserve, { instanceOf: NoAnswer }), { sent: true }, `${status}`)
  }
  for (const status of [404, 409, 422, 429]) {
    neighbours.catalog.fault({ fault: 'refuse', status, times: 1 })
    t.like(await reserve(), { answer: 'refused', status })
  }
  await http.close()
})

test.serial('408, 425, 499, 502 and 504 leave open whether Shipping made a shipment; its own errors are over', async (t) => {
  const http = neighbour('shipping', neighbours.shippingBase)
  const shipping = createShipping(http)
  const create = () => shipping.create({ order_id: 1, user_email: 'ada@example.com', ...demoAddress }, 'k')
  for (const status of [408, 425, 499, 502, 504]) {
    neighbours.shipping.fault({ fault: 'refuse', status, times: 1 })
    t.like(await t.throwsAsync(create, { instanceOf: NoAnswer }), { sent: true }, `${status}`)
  }
  for (const [status, answer] of [
    [422, 'refused'],
    [500, 'failed'],
    [503, 'failed'],
  ] as const) {
    neighbours.shipping.fault({ fault: 'refuse', status, times: 1 })
    t.like(await create(), { answer }, `${status}`)
  }
  await http.close()
})
