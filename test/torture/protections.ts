/** What each protection is in the source, and what stands there without it. */

export type Protection =
  | 'nothing'
  | 'rescuer'
  | 'mending'
  | 'lease'
  | 'epoch'
  | 'offsets-last'
  | 'conditional-completion'
  | 'outbox-in-the-transaction'
  | 'new-producer'

interface Replacement {
  /** Below src/. */
  file: string
  code: string
  instead: string
}

/** Not a protection: a relay that waits for its broker for a second only, so that a test need not wait for 15 s. */
const impatientRelay: Replacement = { file: 'kafka/client.ts', code: 'requestTimeoutMs = 5000', instead: 'requestTimeoutMs = 300' }

/** Nor this: a statement that a test holds back waits for longer than others lock rows. */
const patientStatements: Replacement = { file: 'db/pool.ts', code: 'const LOCK_MS = 3000', instead: 'const LOCK_MS = 60_000' }

export const protections: Record<Protection, readonly Replacement[]> = {
  nothing: [impatientRelay, patientStatements],

  rescuer: [
    {
      file: 'processors/rescuer.ts',
      code: 'for (const look of [endOverdue, driveOn, writeDownCalls, driveOnPayments])',
      instead: 'for (const look of [] as (typeof endOverdue)[])',
    },
  ],

  mending: [
    {
      file: 'stock/mending.ts',
      code: 'const next = nextCall(books, ',
      instead: 'const next = nextCall({ ...books, extraHold: 0, extraStock: 0 }, ',
    },
  ],

  lease: [
    {
      file: 'stock/leases.ts',
      code: 'take: (wish) =>',
      instead: `take: async () => ({
        expired: [], expiredOnRecord() {}, waited: false, wanted: () => false, keep: async () => true, letGo() {}, runOut() {},
      }),
      takeOne: (wish: Wish) =>`,
    },
  ],

  epoch: [
    patientStatements,
    { file: 'db/checkout-statements.ts', code: 'where s.epoch is distinct from h.epoch', instead: 'where false' },
    { file: 'db/checkout-statements.ts', code: ' and s.epoch = w.epoch, false)', instead: ', false)' },
  ],

  'offsets-last': [
    {
      file: 'kafka/payment-bridge.ts',
      code: 'const waiting = await receiveChunk(batch, chunk.map(readPaymentMessage))',
      instead: `await batch.done(chunk.at(-1)!.offset)
      await new Promise((resolve) => setTimeout(resolve, 1000))
      const waiting = await receiveChunk(batch, chunk.map(readPaymentMessage))`,
    },
  ],

  'conditional-completion': [
    {
      file: 'db/checkout-statements.ts',
      code: "where l.state = 'OPEN' and l.attempt = i.attempt and l.deadline_at > clock_timestamp()\n          and (",
      instead: 'where (',
    },
    {
      file: 'db/checkout-statements.ts',
      code: "set state = 'CREATED', recovery_point",
      instead: "set state = 'CREATED', outcome = null, recovery_point",
    },
  ],

  'outbox-in-the-transaction': [
    {
      file: 'db/checkout-statements.ts',
      code: ' i using (order_id, attempt)',
      instead: ' i using (order_id, attempt) where false',
    },
    {
      file: 'db/checkout-statements.ts',
      code: '  const won = inOrder(batch, rows, (row) => row)\n',
      instead: `  await new Promise((resolve) => setTimeout(resolve, 1000))
  await pool.query(sql.unsafe\`
    insert into order_service.outbox (event_id, order_id, type, payload)
    select id, order_id, 'order.created', jsonb_build_object('type', 'order.created', 'order_id', order_id, 'event_id', id)
    from (select gen_random_uuid() as id, o.id as order_id from public.orders o where o.id = any(\${idsOf(batch)})) e\`)
  const won = inOrder(batch, rows, (row) => row)
`,
    },
  ],

  'new-producer': [
    impatientRelay,
    {
      file: 'kafka/relay.ts',
      code: 'await closeProducer()\n        const last',
      instead: 'const last',
    },
  ],
}
