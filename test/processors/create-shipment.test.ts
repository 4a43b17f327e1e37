/** A shipment's turn at Shipping comes when it comes: none is sent for what can become no order any more. */
import test from 'ava'
import { NoAnswer } from '../../src/clients/http.ts'
import { createShipping } from '../../src/clients/shipping.ts'
import { type CheckoutRun, StepFault } from '../../src/processors/checkout-run.ts'
import { createShipment } from '../../src/processors/create-shipment.ts'
import { demoAddress } from '../support/shop.ts'

const DEADLINE = 8000

/** A Shipping whose turn comes at that time. */
async function shippedAt(turn: number) {
  let now = 0
  const sent: string[] = []
  const shipping = createShipping({
    async call({ name, mayGo }) {
      now = turn
      if (!(await mayGo!())) throw new NoAnswer('not sent', { sent: false, settlesAt: 0 })
      sent.push(name)
      return { status: 201, body: {}, settlesAt: 0 }
    },
    close: async () => {},
  })
  const delivery = Promise.resolve({ userEmail: 'ada@example.com', address: demoAddress })
  const run = { orderId: 1, deadline: DEADLINE, shipmentCall: 'unsent', delivery } as CheckoutRun
  const ended = await createShipment(shipping, { wallTime: () => now })
    .do(run)
    .catch((error: unknown) => error)
  return { ended, sent, shipmentCall: run.shipmentCall }
}

test('a draft is sent whose turn comes before the deadline', async (t) => {
  t.deepEqual(await shippedAt(DEADLINE - 1), { ended: undefined, sent: ['create'], shipmentCall: 'unknown' })
})

test('no draft is sent whose turn comes after the deadline, and the checkout knows that there is none', async (t) => {
  const { ended, sent, shipmentCall } = await shippedAt(DEADLINE)
  t.true(ended instanceof StepFault)
  t.deepEqual(sent, [])
  t.is(shipmentCall, 'unsent')
})
