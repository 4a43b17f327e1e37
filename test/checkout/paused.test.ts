/** An operator pauses the checkout queue: everybody who asks is told so, and the log says by whom. */
import { execFileSync } from 'node:child_process'
import test from 'ava'
import { startProcess } from '../support/service-process.ts'
import { type Answer, customersOnly, openShop } from '../support/shop.ts'
import { until } from '../support/until.ts'

test('while an operator has paused the checkout queue, customers, readiness, metrics and the log say so', async (t) => {
  const shop = await openShop({ roles: [], env: { CHECKOUT_BUDGET_MS: '3000', JWT_SECRET: 'devsecret' } })
  t.teardown(shop.close)
  const service = await startProcess(t, customersOnly, shop.env)
  await service.logged('started')
  const { url } = service
  const product = shop.catalog.product({ stock: 10 })
  const buyer = () => shop.customer().wants({ product_id: product, qty: 1 })
  const headers = { authorization: `Bearer ${shop.auth.token({ sub: 'ada@example.com', role: 'admin' })}` }
  const turn = async (what: 'pause' | 'resume') =>
    t.is((await fetch(`${url}/order/admin/queues/api/queues/checkout/${what}`, { method: 'PUT', headers })).status, 200)
  const asked = async () => (await buyer()).checkout({ url })
  t.is((await asked()).status, 200)

  await turn('pause')
  const refused = await until(asked, ({ ms }: Answer) => ms < 1000) // the first one may have been let in, and waited
  t.is(refused.status, 503)
  t.deepEqual(refused.body, { detail: 'Orders are paused at the moment' })
  t.is(refused.headers.get('retry-after'), '1')
  const ready = await fetch(`${url}/order/ready`)
  t.is(ready.status, 200)
  const { components } = (await ready.json()) as { components: Record<string, unknown> }
  t.deepEqual(components['checkout-queue'], { state: 'paused by an operator', required: false })
  t.deepEqual(components['payment-queue'], { state: 'ok', required: false })
  const metrics = await (await fetch(`${url}/order/metrics`)).text()
  t.regex(metrics, /^order_queue_paused\{queue="checkout"\} 1$/m)
  t.regex(metrics, /^order_queue_paused\{queue="payment"\} 0$/m)

  await turn('resume')
  await until(asked, ({ status }) => status === 200)
  await service.logged('checkout queue resumed')
  const actions = service.log.filter(({ msg }) => msg === 'operator action')
  t.deepEqual(
    actions.map(({ verb, state, changed }) => [verb, state, changed]),
    [
      ['pause-queue', 'DONE', 1],
      ['resume-queue', 'DONE', 1],
    ],
  )
  const command = `printf 'operator %s' ada@example.com | openssl dgst -sha256 -hmac "$JWT_SECRET"` // as in docs/runbook.md
  const digest = execFileSync('sh', ['-c', command], { env: { ...process.env, JWT_SECRET: 'devsecret' } }).toString()
  t.true(digest.includes(` ${actions[0]!.operator as string}`), digest)
  t.notRegex(JSON.stringify(service.log), /ada@/)
})
