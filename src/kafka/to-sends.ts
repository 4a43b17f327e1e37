/** Groups unsent rows into sends. */
import type { Message } from './client.ts'

/** A row that Kafka has not acknowledged. */
export interface Unsent {
  id: number
  /** For the log. */
  orderId: number | undefined
  message: Message
}

/** `message.max.bytes` (1 MiB by default) limits what one send brings to a partition. Half of it leaves room for framing. */
const SEND_BYTES = 512 * 1024

function bytesOf({ key, value, headers = {} }: Message): number {
  let bytes = Buffer.byteLength(key ?? '') + Buffer.byteLength(value ?? '')
  for (const [name, values] of Object.entries(headers)) for (const one of values) bytes += Buffer.byteLength(name) + one.length
  return bytes
}

/**
 * @param rows in the order in which they are to be sent
 * @param aloneUpTo rows up to this id get a send of their own
 * @returns the same rows in the same order; a row larger than a send should be gets a send of its own
 */
export function toSends<Row extends Unsent>(rows: readonly Row[], aloneUpTo: number): Row[][] {
  const sends: Row[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const row of rows) {
    const own = bytesOf(row.message)
    if (row.id > aloneUpTo && bytes + own <= SEND_BYTES) {
      sends.at(-1)!.push(row)
      bytes += own
    } else {
      sends.push([row])
      bytes = row.id > aloneUpTo ? own : Number.POSITIVE_INFINITY
    }
  }
  return sends
}

/** @param rows at least one */
export function lastOf<Row>(rows: readonly Row[]): Row {
  return rows.at(-1)!
}
