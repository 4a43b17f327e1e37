/** The predecessor, as far as it meets this service: its tables, orders that it makes without a lease, and its consumer of payments. */
import pLimit from 'p-limit'
import { callStock } from './downstreams/caller.ts'
import { createDatabase, query } from './database.ts'
import { kafkaAt } from './topic.ts'

/** The tables and rows that it left, in a database that knows nothing of us. @returns the DSN */
export async function predecessorTables(t: { teardown(end: () => Promise<unknown>): void }): Promise<string> {
  const database = await createDatabase({ migrated: false })
  t.teardown(database.drop)
  await query(
    database.dsn,
    `create table orders (id serial primary key, user_email varchar(255) not null, status varchar(32) not null default 'CREATED',
       total_cents bigint not null, currency varchar(3) not null default 'USD',
       created_at timestamp not null default (now() at time zone 'utc'), updated_at timestamp not null default (now() at time zone 'utc'));
     create index ix_orders_user_email on orders (user_email);
     create table order_items (id serial primary key, order_id integer not null references orders (id) on delete cascade,
       product_id integer not null, qty integer not null, unit_price_cents bigint not null, title_snapshot varchar(255) not null);
     create table alembic_version_order (version_num varchar(32) primary key);
     insert into alembic_version_order values ('0001_init');
     insert into orders (user_email, status, total_cents, created_at, updated_at) values
       ('a@example.com', 'CREATED', 25998, '2025-01-02 03:04:05', '2025-01-02 03:04:05'),
       ('b@example.com', 'PAID', 4000000000, '2025-01-03 03:04:05', '2025-01-03 03:04:05'),
       ('c@example.com', 'CREATED', 100, '2025-01-04 03:04:05', '2025-01-04 03:04:05');
     insert into order_items (order_id, product_id, qty, unit_price_cents, title_snapshot) values
       (1, 7001, 2, 12999, 'Air Zoom'), (2, 7002, 1, 4000000000, 'Ruby'), (3, 7001, 1, 100, 'Laces')`,
  )
  return database.dsn
}

export interface PredecessorDeps {
  dsn: string
  catalogBase: string
  bootstrap: string
  paymentTopic: string
  group: string
}

/** One process of it: a checkout after the other, until `stop`. */
export function startPredecessor({ dsn, catalogBase, bootstrap, paymentTopic, group }: PredecessorDeps, productId: number) {
  const stopping = new AbortController()
  /** Catalog loses holds where two of its calls overlap. */
  const turn = pLimit(1)
  /** Orders that it told customers of, and those that it was told are paid. */
  const sold: number[] = []
  const paid: number[] = []

  async function sell(): Promise<void> {
    await callStock(catalogBase, 'reserve', [{ product_id: productId, qty: 1 }])
    const [made] = await query<{ order_id: number }>(
      dsn,
      `with made as (insert into public.orders (user_email, total_cents) values ('old@example.com', 1000) returning id)
       insert into public.order_items (order_id, product_id, qty, unit_price_cents, title_snapshot)
       select id, $1, 1, 1000, '' from made returning order_id`,
      [productId],
    )
    sold.push(made!.order_id)
  }
  async function takePayment({ order_id: orderId }: { order_id: number }): Promise<void> {
    const items = await query<{ product_id: number; qty: number }>(
      dsn,
      'select product_id, qty from public.order_items where order_id = $1',
      [orderId],
    )
    await callStock(catalogBase, 'commit', items)
    await query(dsn, `update public.orders set status = 'PAID' where id = $1`, [orderId])
    paid.push(orderId)
  }
  const selling = (async () => {
    while (!stopping.signal.aborted) await turn(sell)
  })()

  const consumer = kafkaAt(bootstrap).consumer({ groupId: group, maxWaitTimeInMs: 100 })
  const consuming = (async () => {
    await consumer.connect()
    await consumer.subscribe({ topic: paymentTopic, fromBeginning: true })
    await consumer.run({
      eachMessage: ({ message }) => turn(() => takePayment(JSON.parse(String(message.value)) as { order_id: number })),
    })
  })()

  return {
    sold,
    paid,
    async stop() {
      stopping.abort()
      await Promise.all([selling, consuming])
      await consumer.disconnect()
    },
  }
}
