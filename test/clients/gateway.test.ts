/** Answers of a gateway before a downstream: the call may have got through, and is one without an answer. */
import test from 'ava'
import { createCatalog } from '../../src/clients/catalog.ts'
import { createDownstream, NoAnswer } from '../../src/clients/http.ts'
import { createShipping } from '../../src/clients/shipping.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { type Downstreams, startDownstreams } from '../support/downstreams/index.ts'
import { demoAddress } from '../support/shop.ts'

let downstreams: Downstreams
test.before(async () => {
  downstreams = await startDownstreams({ instant: true })
})
test.after.always(() => downstreams?.stop())

const downstream = (name: string, base: string) =>
  createDownstream({ name, base, headers: { 'x-internal-key': 'devkey' }, concurrency: 1, timeoutMs: 1000, metrics: createMetrics() })

test.serial('408, 425 and 499 leave open whether Catalog changed its stock; other 4xx are its own, and refusals', async (t) => {
  const http = downstream('catalog', downstreams.catalogBase)
  const catalog = createCatalog(http)
  const productId = downstreams.catalog.product({ stock: 5 })
  const reserve = () => catalog.change({ verb: 'reserve', items: [{ productId, qty: 1 }], idempotencyKey: 'k' })
  for (const status of [408, 425, 499, 500, 504]) {
    downstreams.catalog.fault({ fault: 'refuse', status, times: 1 })
    t.like(await t.throwsAsync(reserve, { instanceOf: NoAnswer }), { sent: true }, `${status}`)
  }
  for (const status of [404, 409, 422, 429]) {
    downstreams.catalog.fault({ fault: 'refuse', status, times: 1 })
    t.like(await reserve(), { answer: 'refused', status })
  }
  await http.close()
})

test.serial('408, 425, 499, 502 and 504 leave open whether Shipping made a shipment; its own errors are over', async (t) => {
  const http = downstream('shipping', downstreams.shippingBase)
  const shipping = createShipping(http)
  const create = () => shipping.create({ order_id: 1, user_email: 'ada@example.com', ...demoAddress }, 'k')
  for (const status of [408, 425, 499, 502, 504]) {
    downstreams.shipping.fault({ fault: 'refuse', status, times: 1 })
    t.like(await t.throwsAsync(create, { instanceOf: NoAnswer }), { sent: true }, `${status}`)
  }
  for (const [status, answer] of [
    [422, 'refused'],
    [500, 'failed'],
    [503, 'failed'],
  ] as const) {
    downstreams.shipping.fault({ fault: 'refuse', status, times: 1 })
    t.like(await create(), { answer }, `${status}`)
  }
  await http.close()
})
