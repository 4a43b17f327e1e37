/** A shipment's turn at Shipping comes when it comes: none is sent for what can become no order any more. */
import test from 'ava'
import { NoAnswer } from '../../src/clients/http.ts'
import { createShipping } from '../../src/clients/shipping.ts'
import { type CheckoutRun, Overtaken } from '../../src/processors/checkout-run.ts'
import { createShipment } from '../../src/processors/create-shipment.ts'
import { demoAddress } from '../support/shop.ts'

/** What is sent of a draft, and what the step says, where this is found when its turn comes. */
async function shipped(stillOpen: () => Promise<boolean>) {
  const sent: string[] = []
  const shipping = createShipping({
    async call({ name, mayGo }) {
      if (!(await mayGo!())) throw new NoAnswer('not sent', { sent: false, settlesAt: 0 })
      sent.push(name)
      return { status: 201, body: {}, settlesAt: 0 }
    },
    close: async () => {},
  })
  const delivery = Promise.resolve({ userEmail: 'ada@example.com', address: demoAddress })
  const run = { orderId: 1, shipmentCall: 'unsent', delivery } as CheckoutRun
  const ended = await createShipment(shipping, stillOpen)
    .do(run)
    .catch((error: Error) => error)
  return { ended, sent, shipmentCall: run.shipmentCall }
}

test('a shipment is created for a checkout that is open when its turn comes', async (t) => {
  t.deepEqual(await shipped(async () => true), { ended: undefined, sent: ['create'], shipmentCall: 'unknown' })
})

test('no shipment is created for a checkout that is not open, and the checkout knows that there is none', async (t) => {
  const { ended, ...rest } = await shipped(async () => false)
  t.true(ended instanceof Overtaken)
  t.deepEqual(rest, { sent: [], shipmentCall: 'unsent' })
})

test('no shipment is created where PostgreSQL cannot say whether the checkout is open, and the checkout knows that there is none', async (t) => {
  const silent = new Error('PostgreSQL is away')
  const found = await shipped(async () => {
    throw silent
  })
  t.deepEqual(found, { ended: silent, sent: [], shipmentCall: 'unsent' })
})
