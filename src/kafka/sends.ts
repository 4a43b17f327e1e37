/** How unsent events are put together into sends. */
import type { OutboxEvent } from '../db/outbox.ts'

/** Brokers bound what one send brings to a partition, not only a message (`message.max.bytes`, 1 MiB unless set); half of it leaves room for keys and framing. */
const SEND_BYTES = 512 * 1024

/**
 * @param events in the order they are to be sent in
 * @param aloneUpTo events up to this id go alone
 * @returns the same events in the same order; one that is larger than a send should be goes alone
 */
export function toSends(events: readonly OutboxEvent[], aloneUpTo: number): OutboxEvent[][] {
  const sends: OutboxEvent[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const event of events) {
    const own = Buffer.byteLength(event.value)
    if (event.id > aloneUpTo && bytes + own <= SEND_BYTES) {
      sends.at(-1)!.push(event)
      bytes += own
    } else {
      sends.push([event])
      bytes = event.id > aloneUpTo ? own : Number.POSITIVE_INFINITY
    }
  }
  return sends
}

/** @param events at least one */
export function lastOf(events: readonly OutboxEvent[]): OutboxEvent {
  return events.at(-1)!
}
