import test from 'ava'
import { openShop, type Shop } from '../support/shop.ts'
import { until } from '../support/until.ts'

let shop: Shop
test.before(async () => {
  shop = await openShop({ env: { CHECKOUT_BUDGET_MS: '6000' } })
})
test.after.always(() => shop?.close())

interface Row extends Record<string, unknown> {
  state: string
  cause: string | null
  service: string | null
  history: { attempt: number; step: string; cause?: string; stack?: string }[]
}

async function checkOut(): Promise<{ status: number; row: Row }> {
  const product = shop.catalog.product({ stock: 10 })
  const { status } = await (await shop.customer().wants({ product_id: product, qty: 1 })).checkout()
  const [row] = await until(
    () => shop.query<Row>(`select state, cause, service, history from order_service.checkouts order by order_id desc limit 1`),
    ([one]) => one !== undefined && one.state !== 'OPEN',
  )
  return { status, row: row! }
}

test.serial('a checkout without a fault has no cause and no history', async (t) => {
  t.like((await checkOut()).row, { state: 'CREATED', cause: null, service: null, history: [] })
})

test.serial('a checkout that an unreachable service ended has its cause, its service and each failed attempt', async (t) => {
  await shop.shipping.down()
  const { status, row } = await checkOut()
  await shop.shipping.up()
  t.is(status, 503)
  t.like(row, { state: 'CANCELLED', cause: 'downstream-unreachable', service: 'shipping' })
  t.true(row.history.length >= 4, 'the last attempt, which ended it, is among them')
  for (const { step, cause } of row.history) t.deepEqual([step, cause], ['create-shipment', 'downstream-unreachable'])
})

test.serial('a checkout that Catalog refused because of our key says so; one that it refused for its stock has no cause', async (t) => {
  const refusal = shop.catalog.fault({ fault: 'refuse', status: 401, detail: 'no such key', call: 'reserve' })
  const { row } = await checkOut()
  refusal.remove()
  t.like(row, { state: 'REJECTED', cause: 'downstream-refuses-us', service: 'catalog' })
  t.is(row.history.length, 1)

  const soldOut = shop.catalog.product({ stock: 0 })
  t.is((await (await shop.customer().wants({ product_id: soldOut, qty: 1 })).checkout()).status, 409)
  const [rejected] = await shop.query<Row>('select state, cause from order_service.checkouts order by order_id desc limit 1')
  t.deepEqual(rejected, { state: 'REJECTED', cause: null } as Row)
})

test.serial('a fault of our own is recorded with its stack, which names no customer', async (t) => {
  await shop.query(`create function public.bug() returns trigger language plpgsql as $$ begin raise exception 'a bug'; end $$`)
  await shop.query('create trigger bug before insert on public.orders for each row execute function public.bug()')
  const { status, row } = await checkOut()
  await shop.query('drop trigger bug on public.orders')
  t.is(status, 503)
  t.is(row.state, 'CANCELLED')
  const failed = row.history.find(({ cause }) => cause === 'internal-error')
  t.regex(failed!.stack!, /\n\s+at /)
  t.notRegex(JSON.stringify(row.history), /@example\.com/)
})
