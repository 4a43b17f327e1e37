import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { ask, callShipment, callStock } from './caller.ts'

const main = fileURLToPath(new URL('main.ts', import.meta.url))

/** The process, and the URLs it printed. */
async function start(
  t: { teardown(end: () => void): void },
  ...options: string[]
): Promise<{ child: ChildProcess; bases: Record<string, string> }> {
  const child = spawn(process.execPath, [main, ...options], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string]
  return { child, bases: JSON.parse(line) as Record<string, string> }
}

test('the downstreams process prints its addresses, and they work', async (t) => {
  const { bases } = await start(t, '--instant', '--exact', '--release', '--first-product-id=900')
  t.deepEqual(Object.keys(bases), ['catalog', 'shipping', 'auth', 'control'])
  const { body } = await ask(`${bases.control}/catalog/products`, { body: { stock: 10, reserved: 2 } })
  t.deepEqual(body, { id: 900 })
  t.is((await callStock(bases.catalog ?? '', 'release', [{ product_id: 900, qty: 1 }])).status, 200)
})

const endings: [string, (child: ChildProcess) => unknown][] = [
  ['SIGTERM', (child) => child.kill('SIGTERM')],
  ['the end of its stdin', (child) => child.stdin?.end()],
]

for (const [name, end] of endings) {
  test(`the downstreams process ends by ${name}, with a call hanging, one late and connections open`, async (t) => {
    const { child, bases } = await start(t)
    await ask(`${bases.control}/catalog/faults`, { body: { call: 'reserve', fault: 'hang', times: 1 } })
    await ask(`${bases.control}/catalog/faults`, { body: { call: 'reserve', fault: 'late', ms: 60_000 } })
    const { id } = (await ask(`${bases.control}/catalog/products`, { body: { stock: 10 } })).body as { id: number }
    const calls = [1, 2].map(() => t.throwsAsync(callStock(bases.catalog ?? '', 'reserve', [{ product_id: id, qty: 1 }])))
    while (((await ask(`${bases.control}/catalog/journal`)).body as unknown[]).length < 2);

    const exited = once(child, 'exit')
    const since = Date.now()
    end(child)
    t.deepEqual(await exited, [0, null])
    t.true(Date.now() - since < 2_000)
    await Promise.all(calls)
  })
}

test('with --real the downstreams work at the pace of the real ones', async (t) => {
  const { bases } = await start(t, '--real', '--first-product-id=900')
  await ask(`${bases.control}/catalog/products`, { body: { stock: 10 } })
  t.is((await callStock(bases.catalog ?? '', 'reserve', [{ product_id: 900, qty: 1 }])).status, 200)
  t.is((await callShipment(bases.shipping ?? '')).status, 201)
})

const refusals: [string[], RegExp][] = [
  [['--catalog-port=abc'], /--catalog-port is not a whole number: "abc"/],
  [['--instant', '--real'], /--instant and --real exclude each other/],
]

for (const [options, reason] of refusals) {
  test(`${options.join(' ')} is refused in so many words`, async (t) => {
    const child = spawn(process.execPath, [main, ...options], { stdio: ['ignore', 'ignore', 'pipe'] })
    let stderr = ''
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString()
    })
    const [code] = (await once(child, 'close')) as [number]
    t.is(code, 1)
    t.regex(stderr, reason)
  })
}
