/** What Shipping takes for a shipment, and what it makes of it. */
import { emailFlaw } from './email.ts'

/** A shipment as Shipping answers it. */
export interface Shipment {
  id: number
  order_id: number
  user_email: string
  address_line1: string
  address_line2: string
  city: string
  country: string
  postcode: string
  carrier: string
  tracking_number: string
  status: string
}

/** What a shipment is asked for with. */
export type ShipmentRequest = Omit<Shipment, 'id' | 'carrier' | 'tracking_number' | 'status'>

/** A field that Shipping refuses, and why. */
export interface Flaw {
  field: string
  msg: string
}

const MAX_INTEGER = 2_147_483_647
const lengths = { address_line1: 255, address_line2: 255, city: 128, postcode: 32 }

/** A body as a request, or its first flaw. */
export function shipmentRequest(body: unknown): ShipmentRequest | Flaw {
  if (typeof body !== 'object' || body === null) return { field: 'body', msg: 'Input should be a valid dictionary' }
  const { order_id, user_email, country, address_line2 = '', ...rest } = body as Record<string, unknown>
  if (!isId(order_id)) return { field: 'order_id', msg: 'Input should be a valid integer' }
  if (typeof user_email !== 'string') return { field: 'user_email', msg: 'Input should be a valid string' }
  const flaw = emailFlaw(user_email)
  if (flaw) return { field: 'user_email', msg: `value is not a valid email address: ${flaw}` }
  if (typeof country !== 'string' || !/^[A-Za-z]{2}$/.test(country))
    return { field: 'country', msg: 'Country should be exactly two letters' }
  const { address_line1, city, postcode } = rest
  const texts: Record<string, unknown> = { address_line1, address_line2, city, postcode }
  for (const [field, length] of Object.entries(lengths)) {
    const text = texts[field]
    if (typeof text !== 'string') return { field, msg: 'Input should be a valid string' }
    // Counted as Python does, by code points.
    if (text.length > length && [...text].length > length) return { field, msg: `String should have at most ${length} characters` }
  }
  return { order_id, user_email, country, ...(texts as Record<keyof typeof lengths, string>) }
}

/** Text that its database cannot keep: it answers 500 to it, since nobody checks. */
export function breaksDatabase({ address_line1, address_line2, city, postcode }: ShipmentRequest): boolean {
  return [address_line1, address_line2, city, postcode].some((text) => !text.isWellFormed() || text.includes('\0'))
}

/** Whether a value can be an order's id. */
export function isId(value: unknown): value is number {
  return Number.isInteger(value) && Math.abs(value as number) <= MAX_INTEGER
}
