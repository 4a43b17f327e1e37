/** What is not finished yet: rows, messages and jobs that somebody of ours still has to come to. */
import { Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { CHECKOUT_QUEUE } from '../../src/queues/checkout.ts'
import { PAYMENT_QUEUE } from '../../src/queues/payment.ts'
import { query } from '../support/database.ts'
import { kafkaAt } from '../support/topic.ts'

const OPEN_ROWS = `
  select 'checkout ' || order_id as what from order_service.checkouts where state = 'OPEN'
  union all select 'event ' || id from order_service.outbox where sent_at is null
  union all select 'payment event ' || id from order_service.payment_events where state = 'WAITING'
  union all select 'unpublished dead letter ' || id from order_service.dead_letters where published_at is null
  union all select 'product ' || product_id || case when call_id is not null then ' in call ' || call_id || ' (' || call_verb || ')' else ' to be corrected' end
    from order_service.products
    where hold_correction <> 0 or stock_correction <> 0 or foreign_holds < 0 or reconciling_since is not null or call_verb <> 'check'
  union all select 'call ' || call_id || ' (' || verb || ') on product ' || product_id from order_service.unanswered_calls where found is null
  union all select 'change of product ' || product_id from order_service.product_changes`

export interface OpenOptions {
  dsn: string
  redisUrl: string
  prefix: string
  bootstrap: string
  paymentTopic: string
  group: string
}

/** @returns a line for each of them; one that cannot be asked is open */
export function createOpen({ dsn, redisUrl, prefix, bootstrap, paymentTopic, group }: OpenOptions) {
  const connection = new Redis(redisUrl, { maxRetriesPerRequest: null })
  connection.on('error', () => {})
  const queues = [CHECKOUT_QUEUE, PAYMENT_QUEUE].map((name) => new Queue(name, { connection, prefix }))
  for (const queue of queues) queue.on('error', () => {}) // Redis may be away; then nothing can be asked
  const kafka = kafkaAt(bootstrap)

  async function jobs(): Promise<string[]> {
    const found = await Promise.all(
      queues.map(async (queue) => {
        const counts = await queue.getJobCounts('waiting', 'active', 'delayed', 'failed', 'prioritized')
        return Object.entries(counts).flatMap(([state, count]) => (count > 0 ? [`${count} ${state} jobs of ${queue.name}`] : []))
      }),
    )
    return found.flat()
  }

  /** Messages on the payment topic, and how many of them the group has not committed yet. */
  async function messages(): Promise<{ there: number; unread: number }> {
    const admin = kafka.admin({ retry: { retries: 1 } })
    try {
      await admin.connect()
      const [ends, [committed]] = await Promise.all([
        admin.fetchTopicOffsets(paymentTopic),
        admin.fetchOffsets({ groupId: group, topics: [paymentTopic] }),
      ])
      const there = ends.reduce((sum, { high }) => sum + Number(high), 0)
      // -1 where nothing of the partition was ever taken.
      const read = committed!.partitions.reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0)
      return { there, unread: there - read }
    } finally {
      await admin.disconnect().catch(() => {})
    }
  }

  return {
    messages,
    jobs,
    async open(): Promise<string[]> {
      try {
        const rows = await query<{ what: string }>(dsn, OPEN_ROWS)
        const { unread } = await messages()
        const notRead = unread > 0 ? [`${unread} payment messages not taken`] : []
        return [...rows.map(({ what }) => what), ...(await jobs()), ...notRead]
      } catch (error) {
        return [`cannot be asked: ${(error as Error).message}`]
      }
    },
    async close(): Promise<void> {
      await Promise.all(queues.map((queue) => queue.close()))
      connection.disconnect()
    },
  }
}
