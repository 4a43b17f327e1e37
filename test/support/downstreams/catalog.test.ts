import test from 'ava'
import { ask, callStock } from './caller.ts'
import { type Downstreams, type DownstreamsOptions, startDownstreams } from './index.ts'

/** Catalog and its base, stopped with the test. */
async function open(
  t: { teardown(end: () => Promise<void>): void },
  options: DownstreamsOptions = {},
): Promise<Pick<Downstreams, 'catalog'> & { base: string }> {
  const downstreams = await startDownstreams({ seed: 1, ...options })
  t.teardown(downstreams.stop)
  return { catalog: downstreams.catalog, base: downstreams.catalogBase }
}

const oneLine = (product_id: number, qty: number) => [{ product_id, qty }]

async function reserveTogether(base: string, productId: number, calls: number, atOnce: number): Promise<number[]> {
  const statuses: number[] = []
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (let n = 0; n < calls / atOnce; n++) statuses.push((await callStock(base, 'reserve', [{ product_id: productId, qty: 1 }])).status)
    }),
  )
  return statuses
}

test('reserves that overlap on one product are lost, though each is answered 200', async (t) => {
  const { catalog, base } = await open(t)
  const shoes = catalog.product({ stock: 1_000 })

  const statuses = await reserveTogether(base, shoes, 64, 16)

  t.true(statuses.every((status) => status === 200))
  const held = catalog.inventory(shoes)?.reserved ?? 0
  t.true(held > 0 && held < 60, `held ${held} of 64`)
  t.true(catalog.inFlightMost(shoes) > 1)
})

test('reserves one at a time lose nothing, and the journal shows that none overlapped', async (t) => {
  const { catalog, base } = await open(t)
  const shoes = catalog.product({ stock: 1_000 })

  await reserveTogether(base, shoes, 20, 1)

  t.deepEqual(catalog.inventory(shoes), { in_stock: 1_000, reserved: 20 })
  t.is(catalog.inFlightMost(shoes), 1)
  t.is(catalog.journal({ call: 'reserve', productId: shoes }).length, 20)
})

test('reserves of different products do not disturb each other', async (t) => {
  const { catalog, base } = await open(t)
  const shoes = Array.from({ length: 16 }, () => catalog.product({ stock: 100 }))

  await Promise.all(shoes.map((id) => reserveTogether(base, id, 10, 1)))

  t.true(shoes.every((id) => catalog.inventory(id)?.reserved === 10))
  t.is(catalog.inFlightMost(), 1)
  t.true(catalog.callsAtOnceMost() > 1)
})

test('commits and restocks overwrite each other too', async (t) => {
  const { catalog, base } = await open(t)
  const shoes = catalog.product({ stock: 1_000, reserved: 500 })

  await Promise.all(
    ['commit', 'restock', 'commit', 'restock', 'commit', 'restock', 'commit', 'restock'].map(async (verb) => {
      for (let n = 0; n < 8; n++) await callStock(base, verb, [{ product_id: shoes, qty: 1 }])
    }),
  )

  const { reserved = 0 } = catalog.inventory(shoes) ?? {}
  t.true(reserved > 500 - 32, `32 were committed, and ${500 - reserved} are gone`)
})

test('an exact Catalog loses nothing', async (t) => {
  const { catalog, base } = await open(t, { exact: true })
  const [shoes, socks] = [catalog.product({ stock: 50 }), catalog.product({ stock: 1_000 })]
  const lines = [
    { product_id: shoes, qty: 1 },
    { product_id: socks, qty: 1 },
  ]

  const answers = await Promise.all(Array.from({ length: 64 }, (_, n) => callStock(base, 'reserve', n % 2 ? lines : lines.toReversed())))

  t.is(answers.filter(({ status }) => status === 200).length, 50)
  t.is(answers.filter(({ status }) => status === 409).length, 14)
  t.deepEqual(catalog.inventory(shoes), { in_stock: 50, reserved: 50 })
  t.deepEqual(catalog.inventory(socks), { in_stock: 1_000, reserved: 50 })
})

test('an instant Catalog loses nothing either, and answers at once', async (t) => {
  const { catalog, base } = await open(t, { instant: true })
  const shoes = catalog.product({ stock: 1_000 })

  await reserveTogether(base, shoes, 64, 16)

  t.deepEqual(catalog.inventory(shoes), { in_stock: 1_000, reserved: 64 })
})

for (const instant of [false, true]) {
  test(`an exact Catalog applies a key once and answers it alike${instant ? ', instantly too' : ''}`, async (t) => {
    const { catalog, base } = await open(t, { exact: true, instant })
    const shoes = catalog.product({ stock: 3 })
    const reserve = (key: string) => callStock(base, 'reserve', [{ product_id: shoes, qty: 2 }], { headers: { 'idempotency-key': key } })

    const answers = [await reserve('a'), await reserve('a'), await reserve('b')]
    catalog.setInventory(shoes, { in_stock: 100, reserved: 2 })
    answers.push(await reserve('b'))

    t.deepEqual(
      answers.map(({ status }) => status),
      [200, 200, 409, 409],
    )
    t.deepEqual(catalog.inventory(shoes), { in_stock: 100, reserved: 2 })
    t.deepEqual(
      catalog.journal().map(({ applied }) => applied),
      [true, false, false, false],
    )
  })
}

test('the Catalog of today forgets keys and applies twice', async (t) => {
  const { catalog, base } = await open(t)
  const shoes = catalog.product({ stock: 10 })
  for (let n = 0; n < 2; n++) await callStock(base, 'reserve', [{ product_id: shoes, qty: 2 }], { headers: { 'idempotency-key': 'a' } })
  t.deepEqual(catalog.inventory(shoes), { in_stock: 10, reserved: 4 })
  t.deepEqual(
    catalog.journal().map(({ idempotencyKey, applied }) => [idempotencyKey, applied]),
    [
      ['a', true],
      ['a', true],
    ],
  )
})

test('reserve holds, commit takes away, restock brings back', async (t) => {
  const { catalog, base } = await open(t)
  const shoes = catalog.product({ stock: 10 })
  const line = [{ product_id: shoes, qty: 2 }]

  t.deepEqual(await callStock(base, 'reserve', line), { status: 200, body: { status: 'reserved' } })
  t.deepEqual(catalog.inventory(shoes), { in_stock: 10, reserved: 2 })
  t.deepEqual(await callStock(base, 'commit', line), { status: 200, body: { status: 'committed' } })
  t.deepEqual(catalog.inventory(shoes), { in_stock: 8, reserved: 0 })
  t.deepEqual(await callStock(base, 'commit', line), { status: 200, body: { status: 'committed' } })
  t.deepEqual(catalog.inventory(shoes), { in_stock: 6, reserved: 0 })
  t.deepEqual(await callStock(base, 'restock', line), { status: 200, body: { status: 'restocked' } })
  t.deepEqual(catalog.inventory(shoes), { in_stock: 8, reserved: 0 })
})

test('a stock call applies all its lines or none, and adds up lines of one product', async (t) => {
  const { catalog, base } = await open(t)
  const [shoes, socks] = [catalog.product({ stock: 10 }), catalog.product({ stock: 1 })]

  t.deepEqual(
    await callStock(base, 'reserve', [
      { product_id: shoes, qty: 2 },
      { product_id: socks, qty: 2 },
    ]),
    { status: 409, body: { detail: `Insufficient stock for product_id ${socks}` } },
  )
  t.deepEqual(catalog.inventory(shoes), { in_stock: 10, reserved: 0 })

  const twice = { product_id: shoes, qty: 5 }
  t.is((await callStock(base, 'reserve', [twice, { ...twice, qty: 6 }])).status, 409)
  t.is((await callStock(base, 'reserve', [twice, twice])).status, 200)
  t.deepEqual(catalog.inventory(shoes), { in_stock: 10, reserved: 10 })
})

test('Catalog refuses unknown products, impossible changes and malformed requests', async (t) => {
  const { catalog, base } = await open(t)
  const shoes = catalog.product({ stock: 10 })
  const bare = catalog.product({ stock: 10 })
  catalog.setInventory(bare, null)
  const line = { product_id: shoes, qty: 1 }

  t.deepEqual(await callStock(base, 'commit', [{ product_id: 999, qty: 1 }]), {
    status: 404,
    body: { detail: 'Inventory missing for product_id 999' },
  })
  t.deepEqual(await callStock(base, 'restock', [{ product_id: bare, qty: 1 }]), {
    status: 404,
    body: { detail: `Inventory missing for product_id ${bare}` },
  })
  t.is((await callStock(base, 'reserve', [line], { headers: { 'x-internal-key': 'wrong' } })).status, 401)
  t.deepEqual(await callStock(base, 'release', [line]), { status: 404, body: { detail: 'Not Found' } })
  for (const body of [
    '',
    '{',
    '[]',
    '{}',
    '{"items":{}}',
    { items: [{ ...line, qty: 0 }] },
    { items: [{ ...line, qty: 1.5 }] },
    { items: [{ qty: 1 }] },
    { items: [null] },
  ])
    t.is((await callStock(base, 'reserve', [], { body })).status, 422, JSON.stringify(body))
  t.deepEqual(catalog.inventory(shoes), { in_stock: 10, reserved: 0 })
})

test('a release lowers the hold of a product', async (t) => {
  const { catalog, base } = await open(t, { release: true })
  const shoes = catalog.product({ stock: 10, reserved: 5 })
  t.is((await callStock(base, 'release', [{ product_id: shoes, qty: 2 }])).status, 200)
  t.deepEqual(catalog.inventory(shoes), { in_stock: 10, reserved: 3 })
  t.is((await callStock(base, 'release', [{ product_id: shoes, qty: -2 }])).status, 422)
})

test('a reserve with a negative quantity lowers the hold, below zero too, and leaves the stock alone', async (t) => {
  const { catalog, base } = await open(t)
  const shoes = catalog.product({ stock: 10, reserved: 4 })

  t.deepEqual(await callStock(base, 'reserve', oneLine(shoes, -2)), { status: 200, body: { status: 'reserved' } })
  t.deepEqual(catalog.inventory(shoes), { in_stock: 10, reserved: 2 })
  t.is((await callStock(base, 'reserve', oneLine(shoes, -3))).status, 200)
  t.deepEqual(catalog.inventory(shoes), { in_stock: 10, reserved: -1 })
})

test('a negative reserve of an oversold product is refused with 409 unless it ends the overselling', async (t) => {
  const { catalog, base } = await open(t)
  const shoes = catalog.product({ stock: 1, reserved: 4 })

  t.is((await callStock(base, 'reserve', oneLine(shoes, -2))).status, 409)
  t.deepEqual(catalog.inventory(shoes), { in_stock: 1, reserved: 4 })
  t.is((await callStock(base, 'reserve', oneLine(shoes, -3))).status, 200)
  t.deepEqual(catalog.inventory(shoes), { in_stock: 1, reserved: 1 })
})

test('a negative reserve is all or none, for one product and for many', async (t) => {
  const { catalog, base } = await open(t)
  const [shoes, socks] = [catalog.product({ stock: 10, reserved: 4 }), catalog.product({ stock: 1 })]

  t.is((await callStock(base, 'reserve', [...oneLine(shoes, -2), ...oneLine(socks, 2)])).status, 409)
  t.is((await callStock(base, 'reserve', [...oneLine(shoes, -2), ...oneLine(999, -2)])).status, 404)
  t.deepEqual(catalog.inventory(shoes), { in_stock: 10, reserved: 4 })
  t.is((await callStock(base, 'reserve', [...oneLine(shoes, -2), ...oneLine(socks, 1), ...oneLine(shoes, 1)])).status, 200)
  t.deepEqual(catalog.inventory(shoes), { in_stock: 10, reserved: 3 })
  t.deepEqual(catalog.inventory(socks), { in_stock: 1, reserved: 1 })
})

test('a commit with a negative quantity raises stock and hold, and a restock with one changes nothing', async (t) => {
  const { catalog, base } = await open(t)
  const shoes = catalog.product({ stock: 10, reserved: 4 })

  t.deepEqual(await callStock(base, 'restock', oneLine(shoes, -2)), { status: 200, body: { status: 'restocked' } })
  t.deepEqual(catalog.inventory(shoes), { in_stock: 10, reserved: 4 })
  t.false(catalog.journal().at(-1)?.applied)
  t.deepEqual(await callStock(base, 'commit', oneLine(shoes, -2)), { status: 200, body: { status: 'committed' } })
  t.deepEqual(catalog.inventory(shoes), { in_stock: 12, reserved: 6 })
})

test('a Catalog that checks refuses every negative quantity with 422', async (t) => {
  const { catalog, base } = await open(t, { negativeReserve: 'refuses' })
  const shoes = catalog.product({ stock: 10, reserved: 4 })

  for (const verb of ['reserve', 'commit', 'restock']) {
    const { status, body } = await callStock(base, verb, [...oneLine(shoes, 1), ...oneLine(shoes, -2)])
    t.is(status, 422, verb)
    t.like(body, { detail: [{ loc: ['body', 'items', 1, 'qty'], msg: 'Input should be greater than or equal to 1' }] })
  }
  t.deepEqual(catalog.inventory(shoes), { in_stock: 10, reserved: 4 })
  t.is((await callStock(base, 'reserve', oneLine(shoes, 2))).status, 200)
})

test('a Catalog that ignores negative quantities answers 200 and changes nothing by them', async (t) => {
  const { catalog, base } = await open(t, { negativeReserve: 'ignores' })
  const shoes = catalog.product({ stock: 1, reserved: 4 })

  for (const verb of ['reserve', 'commit', 'restock']) t.is((await callStock(base, verb, oneLine(shoes, -2))).status, 200, verb)
  t.deepEqual(catalog.inventory(shoes), { in_stock: 1, reserved: 4 })
  t.true(catalog.journal().every(({ applied }) => !applied))
  t.is((await callStock(base, 'restock', [...oneLine(shoes, -2), ...oneLine(shoes, 3)])).status, 200)
  t.deepEqual(catalog.inventory(shoes), { in_stock: 4, reserved: 4 })
})

test('a GET shows the product, without a key', async (t) => {
  const { catalog, base } = await open(t, { firstProductId: 70_000 })
  const shoes = catalog.product({ stock: 10, reserved: 2, price: 12_999, title: 'Air Zoom' })
  const read = (id: string | number) => ask(`${base}/catalog/v1/products/${id}`)

  t.is(shoes, 70_000)
  t.deepEqual(await read(shoes), {
    status: 200,
    body: { id: shoes, title: 'Air Zoom', price_cents: 12_999, currency: 'USD', inventory: { in_stock: 10, reserved: 2 } },
  })
  catalog.setInventory(shoes, null)
  t.is(((await read(shoes)).body as { inventory: unknown }).inventory, null)
  t.is((await read(1)).status, 404)
  t.is((await read('shoes')).status, 422)
})

test('a Catalog that is taken down refuses connections, and is back at the same port with its inventory', async (t) => {
  const { catalog, base } = await open(t)
  const shoes = catalog.product({ stock: 10 })
  await callStock(base, 'reserve', [{ product_id: shoes, qty: 1 }])

  await catalog.down()
  await catalog.down()
  const error = await t.throwsAsync(callStock(base, 'reserve', [{ product_id: shoes, qty: 1 }]))
  t.is((error as Error & { cause?: { code?: string } }).cause?.code, 'ECONNREFUSED')

  await catalog.up()
  await catalog.up()
  await callStock(base, 'reserve', [{ product_id: shoes, qty: 1 }])
  t.deepEqual(catalog.inventory(shoes), { in_stock: 10, reserved: 2 })
})

test('at the real pace stock calls and lookups share the same servers', async (t) => {
  const { catalog, base } = await open(t, { real: true })
  const shoes = Array.from({ length: 16 }, () => catalog.product({ stock: 10 }))

  const since = performance.now()
  const answers = await Promise.all(
    shoes.flatMap((id) => [callStock(base, 'reserve', oneLine(id, 1)), ask(`${base}/catalog/v1/products/${id}`)]),
  )

  t.true(performance.now() - since > 50, '32 calls at no more than 360 a second')
  t.true(answers.every(({ status }) => status === 200))
  t.true(shoes.every((id) => catalog.inventory(id)?.reserved === 1))
})

test('at the real pace reserves that overlap on one product are lost, unless Catalog is exact', async (t) => {
  const { catalog, base } = await open(t, { real: true })
  const [shoes, socks] = [catalog.product({ stock: 1_000 }), catalog.product({ stock: 1_000 })]

  await reserveTogether(base, shoes, 64, 16)
  catalog.behave({ exact: true })
  await reserveTogether(base, socks, 64, 16)

  const held = catalog.inventory(shoes)?.reserved ?? 0
  t.true(held > 0 && held < 60, `held ${held} of 64`)
  t.deepEqual(catalog.inventory(socks), { in_stock: 1_000, reserved: 64 })
})

test('manners change while it runs, and the past can be forgotten', async (t) => {
  const { catalog, base } = await open(t)
  const shoes = catalog.product({ stock: 1_000 })
  await reserveTogether(base, shoes, 8, 4)

  catalog.behave({ instant: true })
  catalog.forget()
  catalog.setInventory(shoes, { in_stock: 1_000, reserved: 0 })
  await reserveTogether(base, shoes, 32, 8)

  t.is(catalog.inventory(shoes)?.reserved, 32)
  t.is(catalog.journal().length, 32)
  catalog.keepJournal(5)
  t.is(catalog.journal().length, 5)
  catalog.keepJournal(0)
  await reserveTogether(base, shoes, 2, 1)
  t.is(catalog.journal().length, 0)
})

test('connections stay open between calls, and no hint overrules the caller’s own time-out', async (t) => {
  const { base } = await open(t)
  const response = await fetch(`${base}/catalog/v1/products/1`)
  await response.text()
  t.is(response.headers.get('keep-alive'), null)
  t.not(response.headers.get('connection'), 'close')
})
