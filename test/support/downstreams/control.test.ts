import test from 'ava'
import { Redis } from 'ioredis'
import { ask, callShipment, callStock, noAnswer } from './caller.ts'
import { startDownstreams } from './index.ts'

const redisUrl = process.env.REDIS_URL
if (!redisUrl) throw new Error('These tests fill carts: set REDIS_URL, or run them by bin/test')

const { controlBase, catalogBase, shippingBase, catalog, shipping, cart, stop } = await startDownstreams({ redisUrl })
const redis = new Redis(redisUrl)
test.after.always(async () => {
  await redis.quit()
  await stop()
})

/** A control, and its body; the status where it is not 200. */
async function control(name: string, body?: unknown): Promise<unknown> {
  const [method, path] = name.split(' ')
  const reply = await ask(controlBase + path, { method, body })
  return reply.status === 200 ? reply.body : reply.status
}

const customer = () => `${crypto.randomUUID()}@example.com`

test.serial('the control endpoint creates products and shows their inventory', async (t) => {
  const { id } = (await control('POST /catalog/products', { stock: 10, price: 12_999, title: 'Air Zoom' })) as { id: number }
  await callStock(catalogBase, 'reserve', [{ product_id: id, qty: 3 }])
  t.deepEqual(await control(`GET /catalog/products/${id}/inventory`), { inventory: { in_stock: 10, reserved: 3 } })
  t.deepEqual(await control(`PUT /catalog/products/${id}/inventory`, { in_stock: 1, reserved: 0 }), {})
  t.deepEqual(catalog.inventory(id), { in_stock: 1, reserved: 0 })
  await control(`PUT /catalog/products/${id}/inventory`, null)
  t.is(catalog.inventory(id), null)
  await control('POST /catalog/count-from', { id: 5_000 })
  t.deepEqual(await control('POST /catalog/products', { stock: 1 }), { id: 5_000 })
})

test.serial('Catalog is told what to do with negative quantities', async (t) => {
  const id = catalog.product({ stock: 10, reserved: 4 })
  const reserve = async () => (await callStock(catalogBase, 'reserve', [{ product_id: id, qty: -3 }])).status

  await control('POST /catalog/behave', { negativeReserve: 'refuses' })
  t.is(await reserve(), 422)
  await control('POST /catalog/behave', { negativeReserve: 'ignores' })
  t.is(await reserve(), 200)
  t.is(catalog.inventory(id)?.reserved, 4)
  await control('POST /catalog/behave', { negativeReserve: 'takes' })
  t.is(await reserve(), 200)
  t.is(catalog.inventory(id)?.reserved, 1)
  t.deepEqual(await control(`PUT /catalog/products/${id}/inventory`, { in_stock: 10, reserved: -1 }), {})
  t.is(await control('POST /catalog/behave', { negativeReserve: 'shrugs' }), 422)
})

test.serial('the control endpoint sets and removes faults', async (t) => {
  const id = catalog.product({ stock: 10 })
  const reserve = async () => (await callStock(catalogBase, 'reserve', [{ product_id: id, qty: 1 }])).status

  const told = (await control('POST /catalog/faults', { call: 'reserve', fault: 'refuse', productId: id })) as { id: number }
  t.is(await reserve(), 409)
  t.deepEqual(await control(`DELETE /catalog/faults/${told.id}`), {})
  t.is(await reserve(), 200)
  t.is(await control(`DELETE /catalog/faults/${told.id}`), 404)

  await control('POST /shipping/faults', { call: 'create', fault: 'error', status: 503 })
  t.is((await callShipment(shippingBase)).status, 503)
  await control('DELETE /shipping/faults')
  t.is((await callShipment(shippingBase)).status, 201)
})

test.serial('the control endpoint shows journals, shipments and the most calls ever under way', async (t) => {
  await control('DELETE /catalog/journal')
  await control('DELETE /shipping/journal')
  const id = catalog.product({ stock: 10 })
  await callStock(catalogBase, 'reserve', [{ product_id: id, qty: 1 }])
  await callShipment(shippingBase, { order_id: 77 })

  const [entry] = (await control(`GET /catalog/journal?productId=${id}&call=reserve`)) as unknown[]
  t.like(entry, { call: 'reserve', items: [{ product_id: id, qty: 1 }], answer: 200, applied: true })
  t.deepEqual(await control(`GET /catalog/in-flight?productId=${id}`), { most: 1, callsAtOnceMost: 1 })
  t.like(((await control('GET /shipping/journal?orderId=77')) as unknown[])[0], { call: 'create', orderId: 77, answer: 201 })
  t.is(((await control('GET /shipping/shipments?orderId=77')) as unknown[]).length, 1)
  t.deepEqual(await control('GET /shipping/in-flight'), { most: 1, broke: false })
})

test.serial('downstreams go down and come up, and change their manners', async (t) => {
  for (const [name, base] of [
    ['catalog', catalogBase],
    ['shipping', shippingBase],
  ]) {
    await control(`POST /${name}/down`)
    t.is(await noAnswer(ask(`${base}/`)), 'ECONNREFUSED')
    await control(`POST /${name}/up`)
    t.is((await ask(`${base}/`)).status, 404)
  }
  for (const name of ['catalog', 'shipping']) t.deepEqual(await control(`POST /${name}/behave`, { real: true }), {})
  t.is((await callShipment(shippingBase)).status, 201)
  t.deepEqual(await control('POST /catalog/behave', { release: true, instant: true }), {})
  t.deepEqual(await control('POST /shipping/behave', { instant: true }), {})
  const id = catalog.product({ stock: 10, reserved: 1 })
  t.is((await callStock(catalogBase, 'release', [{ product_id: id, qty: 1 }])).status, 200)
})

test.serial('the control endpoint issues tokens', async (t) => {
  t.regex(((await control('POST /auth/tokens', { sub: 'a', role: 'admin', algorithm: 'HS512' })) as { token: string }).token, /^ey/)
})

test.serial('carts are hashes as Cart writes them, priced as Catalog has it', async (t) => {
  const email = customer()
  const id = catalog.product({ stock: 10, price: 12_999, title: 'Air Zoom' })
  const line = { product_id: id, qty: 2, unit_price_cents: 12_999, title: 'Air Zoom' }

  t.deepEqual(await control('POST /carts', { email, lines: [{ product_id: id, qty: 2 }] }), {})
  const hash = await redis.hgetall(`cart:${email}`)
  t.deepEqual(Object.keys(hash), [String(id)])
  t.deepEqual(JSON.parse(hash[id] ?? ''), line)

  await cart.fill(email, [line, { ...line, qty: 1, unit_price_cents: 1, title: 'Sale' }])
  t.is(await redis.hlen(`cart:${email}`), 2)

  await control('POST /carts', [{ email, fields: { '1': 'no JSON' } }])
  t.deepEqual(await redis.hgetall(`cart:${email}`), { '1': 'no JSON' })

  await control(`DELETE /carts/${encodeURIComponent(email)}`)
  t.is(await redis.exists(`cart:${email}`), 0)
})

test.serial('the control endpoint answers a wrong request with a 4xx that says what is wrong', async (t) => {
  t.is(await control('POST /catalog/products', { stock: 'many' }), 422)
  t.is(await control('POST /catalog/products', { stock: 1, colour: 'red' }), 422)
  t.is(await control('POST /catalog/faults', { call: 'reserve', fault: 'explode' }), 422)
  t.is(await control('POST /catalog/faults', '{'), 422)
  t.is(await control('GET /catalog/journal?call=dance'), 422)
  t.is(await control('GET /catalog/products/999999/inventory'), 404)
  t.is(await control('GET /catalog/products/shoes/inventory'), 422)
  t.is(await control('POST /carts', { email: 'a@example.com' }), 422)
  t.is(await control('DELETE /carts/%E0%A4%A'), 400)
  t.is(await control('GET /nowhere'), 404)
  const { body } = await ask(`${controlBase}/catalog/faults`, { body: { fault: 'explode' } })
  t.regex((body as { detail: string }).detail, /hang/)
  t.true(((await control('GET /')) as { controls: string[] }).controls.includes('POST /catalog/faults'))
  t.deepEqual(shipping.journal({ orderId: -1 }), [])
})
