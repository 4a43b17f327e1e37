/** How many numbers are left of each sequence: ids of orders, of their lines and of our rows. */
import { sql } from 'slonik'
import { z } from 'zod'
import type { Logger } from '../telemetry/logger.ts'
import type { Pool } from './pool.ts'

/** A sequence is nearly exhausted, and the checkout was not begun. Nothing of it has reached PostgreSQL. */
export class OutOfNumbers extends Error {
  override name = 'OutOfNumbers'
}

/** Checkouts that are under way when no more are taken still need numbers: a thousand a second, with lines, for as long as a read is good. */
const KEPT = 1_000_000
const READ_EVERY_MS = 10_000

const leftRow = z.object({ sequence: z.string(), left: z.number() })

/** @returns how many numbers are left of each sequence of ours, and of those that give orders and their lines an `integer` */
export async function readNumbersLeft(pool: Pool): Promise<Map<string, number>> {
  const rows = await pool.any(sql.prepared('numbers-left', leftRow)`
    select schemaname || '.' || sequencename as sequence,
      trunc((case schemaname when 'public' then least(max_value, 2147483647) else max_value end::numeric
        - coalesce(last_value, start_value - increment_by)) / increment_by)::float8 as left
    from pg_sequences
    where schemaname = 'order_service' or (schemaname = 'public' and sequencename in ('orders_id_seq', 'order_items_id_seq'))`)
  return new Map(rows.map(({ sequence, left }) => [sequence, left]))
}

export interface NumbersWatch {
  /** @throws OutOfNumbers while a sequence is nearly exhausted. A later step would fail after the calls to Catalog and Shipping. */
  require(): void
  stop(): void
}

/** Reads now and every 10 s how many are left, and logs each change. While PostgreSQL is unavailable the last answer counts. */
export function watchNumbers(pool: Pool, logger: Logger): NumbersWatch {
  let short: string[] = []
  async function read(): Promise<void> {
    const before = short.join()
    short = [...(await readNumbersLeft(pool))].filter(([, left]) => left < KEPT).map(([sequence]) => sequence)
    if (short.join() === before) return
    if (short.length > 0) logger.error({ sequences: short }, 'sequences are nearly exhausted; checkouts are refused')
    else logger.info('sequences have enough numbers again; checkouts are accepted')
  }
  const again = () => void read().catch(() => {})
  again()
  const reading = setInterval(again, READ_EVERY_MS)
  return {
    require() {
      if (short.length > 0) throw new OutOfNumbers(`${short.join(' and ')} have fewer than ${KEPT} numbers left`)
    },
    stop: () => clearInterval(reading),
  }
}
