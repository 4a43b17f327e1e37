/** Client of Shipping. An order gets exactly one draft, which cannot be deleted (wire contract, "Shipping"). */
import { z } from 'zod'
import type { Fault } from '../causes.ts'
import type { Address } from '../model.ts'
import { type Answer, detailOf, faultOfAnswer, NoAnswer, type Downstream, saidByGateway } from './http.ts'

export interface ShipmentDraft extends Address {
  order_id: number
  user_email: string
}

/** `failed`: a 429, or a 5xx, which may have left a shipment. Shipping itself answered, so the call has ended and may be repeated. */
export type ShipmentAnswer =
  | { answer: 'created' }
  | { answer: 'refused'; detail: string; fault?: Fault | undefined }
  | { answer: 'failed'; detail: string; retryAfterMs: number | undefined; fault: Fault }

export interface Shipping {
  /**
   * @param mayGo checked when the call gets its turn, since many may wait before it
   * @throws NoAnswer if Shipping or a gateway leaves the result open
   */
  create(draft: ShipmentDraft, idempotencyKey: string, mayGo?: () => Promise<boolean>): Promise<ShipmentAnswer>
  /** Whether Shipping has a shipment of the order. @throws NoAnswer */
  has(orderId: number): Promise<boolean>
}

const shipments = z.array(z.object({ order_id: z.int() }))

export function createShipping(downstream: Downstream): Shipping {
  return {
    async create(draft, idempotencyKey, mayGo) {
      const call = { name: 'create', method: 'POST', path: '/shipping/v1/shipments', body: draft, idempotencyKey, mayGo } as const
      const answer = await downstream.call(call)
      if (answer.status >= 200 && answer.status < 300) return { answer: 'created' }
      const { status, retryAfterMs } = answer
      if (status < 400 || saidByGateway.has(status)) throw unclear('create', answer)
      if (status === 429 || status >= 500) return { answer: 'failed', detail: detailOf(answer), retryAfterMs, fault: faultOf(status) }
      // Other refusals concern the address.
      return { answer: 'refused', detail: detailOf(answer), fault: faultOfAnswer('shipping', status) }
    },

    async has(orderId) {
      const answer = await downstream.call({ name: 'read', method: 'GET', path: `/shipping/v1/shipments?order_id=${orderId}` })
      const list = answer.status === 200 ? shipments.safeParse(answer.body) : undefined
      if (!list?.success) throw unclear('read', answer)
      return list.data.some((shipment) => shipment.order_id === orderId)
    },
  }
}

const faultOf = (status: number): Fault => faultOfAnswer('shipping', status) ?? { cause: 'downstream-error', service: 'shipping' }

function unclear(call: string, answer: Answer): NoAnswer {
  const { status, retryAfterMs } = answer
  return new NoAnswer(`shipping ${call}: ${detailOf(answer)}`, {
    sent: true,
    settlesAt: performance.now(),
    retryAfterMs,
    fault: faultOf(status),
  })
}
