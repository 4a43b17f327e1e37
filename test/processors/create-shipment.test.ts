/** A shipment's turn at Shipping comes when it comes: none is sent for what can become no order any more. */
import test from 'ava'
import { NoAnswer } from '../../src/clients/http.ts'
import { createShipping } from '../../src/clients/shipping.ts'
import { type CheckoutRun, StepFault } from '../../src/processors/checkout-run.ts'
import { createShipment } from '../../src/processors/create-shipment.ts'
import { demoAddress } from '../support/shop.ts'

const DEADLINE = 8000

interface Turn {
  /** Time, of a job that was taken at 0. */
  at: number
  /** Whether this attempt is the latest, and its checkout open. */
  isOpen?: boolean | Error
}

/** What is sent of a draft whose turn comes then. */
async function shipped({ at, isOpen = true }: Turn) {
  let now = 0
  let asked = 0
  const sent: string[] = []
  const shipping = createShipping({
    async call({ name, mayGo }) {
      now = at
      if (!(await mayGo!())) throw new NoAnswer('not sent', { sent: false, settlesAt: 0 })
      sent.push(name)
      return { status: 201, body: {}, settlesAt: 0 }
    },
    close: async () => {},
  })
  const delivery = Promise.resolve({ userEmail: 'ada@example.com', address: demoAddress })
  const checkouts = {
    async isOpen() {
      asked += 1
      if (isOpen instanceof Error) throw isOpen
      return isOpen
    },
  }
  const run = { orderId: 1, takenAt: 0, deadline: DEADLINE, shipmentCall: 'unsent', delivery } as CheckoutRun
  const ended = await createShipment(shipping, checkouts, { wallTime: () => now })
    .do(run)
    .catch((error: unknown) => error)
  return { ended, asked, sent, shipmentCall: run.shipmentCall }
}

const created = { ended: undefined, sent: ['create'], shipmentCall: 'unknown' }

test('a draft is sent whose turn comes before the deadline', async (t) => {
  t.deepEqual(await shipped({ at: DEADLINE - 1 }), { ...created, asked: 1 })
})

test('in its first second an attempt is nobody else’s: PostgreSQL is not asked', async (t) => {
  t.deepEqual(await shipped({ at: 999 }), { ...created, asked: 0 })
  t.deepEqual(await shipped({ at: 1000 }), { ...created, asked: 1 })
})

for (const { title, turn, fault } of [
  { title: 'comes after the deadline', turn: { at: DEADLINE }, fault: StepFault },
  { title: 'comes when the checkout has ended, or is another attempt’s', turn: { at: 1000, isOpen: false }, fault: StepFault },
  { title: 'comes when nobody can say whether the checkout is open', turn: { at: 1000, isOpen: new Error('silent') }, fault: Error },
]) {
  test(`no draft is sent whose turn ${title}, and the checkout knows that there is none`, async (t) => {
    const { ended, sent, shipmentCall } = await shipped(turn)
    t.true(ended instanceof fault)
    t.deepEqual(sent, [])
    t.is(shipmentCall, 'unsent')
  })
}
