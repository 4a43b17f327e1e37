/** What each protection is in the source, and what stands there without it. */

export type Protection =
  | 'nothing'
  | 'rescuer'
  | 'reconciliation'
  | 'lease'
  | 'fencing'
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
const impatientRelay: Replacement = { file: 'kafka/client.ts', code: 'REQUEST_TIMEOUT_MS = 5000', instead: 'REQUEST_TIMEOUT_MS = 300' }

/** Nor this: on a busy machine the hold would be recorded by itself before its order is. */
const patientRecord: Replacement = {
  file: 'processors/defer-record.ts',
  code: 'const PATIENCE_MS = 25',
  instead: 'const PATIENCE_MS = 25_000',
}

export const protections: Record<Protection, readonly Replacement[]> = {
  nothing: [impatientRelay],

  rescuer: [
    {
      file: 'processors/rescuer.ts',
      code: 'for (const rescueKind of [cancelOverdue, rescueCheckouts, rescuePayments])',
      instead: 'for (const rescueKind of [] as (typeof cancelOverdue)[])',
    },
  ],

  reconciliation: [
    {
      file: 'stock/explain.ts',
      code: '  const { holdCorrection, stockCorrection } = row\n',
      instead: '  const [holdCorrection, stockCorrection] = [0, 0]\n  if (row) return undefined\n',
    },
  ],

  // A product is taken, though somebody else's call is under way.
  lease: [
    {
      file: 'db/acquire-calls.ts',
      code: `select product_id, call_id, call_verb, call_qty, call_expires_at < clock_timestamp() as is_expired, expected_stock
    from order_service.products
    where product_id = any(\${int4s(productIds)}) and (call_id is null or call_expires_at < clock_timestamp() or call_id = any(\${int8s(holds)}))`,
      instead: `select product_id, null::bigint as call_id, call_verb, call_qty, true as is_expired, expected_stock
    from order_service.products
    where product_id = any(\${int4s(productIds)}) and (true or call_id = any(\${int8s(holds)}))`,
    },
    { file: 'db/intents.ts', code: 'call_id is null and expected_stock is not null', instead: 'expected_stock is not null' },
  ],

  // A hold counts along with its order, though its product has another call by now, which found it and put it on record.
  fencing: [
    patientRecord,
    { file: 'db/complete-checkouts.ts', code: 'where s.call_id is distinct from h.call_id', instead: 'where false' },
    {
      file: 'db/complete-checkouts.ts',
      code: 'where p.product_id = h.product_id and p.call_id = h.call_id',
      instead: 'where p.product_id = h.product_id',
    },
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
      file: 'db/complete-checkouts.ts',
      code: "where l.state = 'OPEN' and l.attempt = i.attempt and l.deadline_at > clock_timestamp()\n        and (",
      instead: 'where (',
    },
    {
      file: 'db/complete-checkouts.ts',
      code: "set state = 'CREATED', recovery_point",
      instead: "set state = 'CREATED', outcome = null, recovery_point",
    },
  ],

  'outbox-in-the-transaction': [
    {
      file: 'db/complete-checkouts.ts',
      code: ' i using (order_id, attempt)',
      instead: ' i using (order_id, attempt) where false',
    },
    {
      file: 'db/complete-checkouts.ts',
      code: '  const found = inOrder(batch, rows, (row) => row)\n',
      instead: `  await new Promise((resolve) => setTimeout(resolve, 1000))
  await pool.query(sql.unsafe\`
    insert into order_service.outbox (event_id, order_id, type, payload)
    select id, order_id, 'order.created', jsonb_build_object('type', 'order.created', 'order_id', order_id, 'event_id', id)
    from (select gen_random_uuid() as id, o.id as order_id from public.orders o where o.id = any(\${idsOf(batch)})) e\`)
  const found = inOrder(batch, rows, (row) => row)
`,
    },
  ],

  'new-producer': [
    impatientRelay,
    {
      file: 'kafka/sender.ts',
      code: 'await this.closeProducer()\n    const last',
      instead: 'const last',
    },
  ],
}
