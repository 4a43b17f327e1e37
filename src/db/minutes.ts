/** A row a minute of what all processes did, for the charts of the operators' pages. */
import { sql } from 'slonik'
import { z } from 'zod'
import { nothing, type Pool } from './pool.ts'

/** What a process did since its last report. Histograms have a count for each bucket, and one for what is above them. */
export interface MinuteReport {
  created: number
  rejected: number
  cancelled: number
  paid: number
  answers: readonly number[]
  payments: readonly number[]
  queueAgeMs: number
  outboxAgeMs: number
}

export interface MinuteRow extends MinuteReport {
  minute: Date
}

/** Adds to the row of the current minute, by PostgreSQL's clock. */
export async function addToMinute(pool: Pool, report: MinuteReport): Promise<void> {
  const { created, rejected, cancelled, paid, answers, payments, queueAgeMs, outboxAgeMs } = report
  await pool.query(sql.prepared('add-to-minute', nothing)`
    insert into order_service.minutes as m (minute, created, rejected, cancelled, paid, answers, payments, queue_age_ms, outbox_age_ms)
    values (date_trunc('minute', clock_timestamp()), ${created}, ${rejected}, ${cancelled}, ${paid},
      ${sql.array([...answers], 'int4')}, ${sql.array([...payments], 'int4')}, ${Math.round(queueAgeMs)}, ${Math.round(outboxAgeMs)})
    on conflict (minute) do update set created = m.created + excluded.created, rejected = m.rejected + excluded.rejected,
      cancelled = m.cancelled + excluded.cancelled, paid = m.paid + excluded.paid,
      answers = array(select coalesce(a, 0) + coalesce(b, 0) from unnest(m.answers, excluded.answers) as t (a, b)),
      payments = array(select coalesce(a, 0) + coalesce(b, 0) from unnest(m.payments, excluded.payments) as t (a, b)),
      queue_age_ms = greatest(m.queue_age_ms, excluded.queue_age_ms), outbox_age_ms = greatest(m.outbox_age_ms, excluded.outbox_age_ms)`)
}

const minuteRow = z.object({
  minute: z.date(),
  created: z.int(),
  rejected: z.int(),
  cancelled: z.int(),
  paid: z.int(),
  answers: z.array(z.int()),
  payments: z.array(z.int()),
  queue_age_ms: z.int(),
  outbox_age_ms: z.int(),
})

/** The last so many minutes, the oldest first. Minutes in which no process ran have no row. */
export async function readMinutes(pool: Pool, count: number): Promise<MinuteRow[]> {
  const rows = await pool.any(sql.prepared('read-minutes', minuteRow)`
    select * from order_service.minutes where minute > clock_timestamp() - ${count}::float8 * interval '1 minute' order by minute`)
  return rows.map(({ queue_age_ms: queueAgeMs, outbox_age_ms: outboxAgeMs, ...row }) => ({ ...row, queueAgeMs, outboxAgeMs }))
}
