-- Events for Kafka, written by the transaction that they report. The relay sends the events of one order by ascending id.
create table order_service.outbox (
  id bigint generated always as identity primary key,
  event_id uuid not null unique,
  order_id integer not null,
  type text not null,
  payload jsonb not null,
  created_at timestamptz not null default now(),
  sent_at timestamptz,
  partition integer,                                   -- where Kafka put it, with kafka_offset
  kafka_offset bigint,
  undeliverable_at timestamptz,                        -- Kafka can never accept this event (too large); the relay continues with others
  undeliverable_reason text,
  check ((undeliverable_at is null) = (undeliverable_reason is null)),
  check (sent_at is null or undeliverable_at is null)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 500);

create index outbox_unsent on order_service.outbox (id) where sent_at is null and undeliverable_at is null;
-- For the operators' pages: the events of an order.
create index outbox_by_order on order_service.outbox (order_id);
create index outbox_sent on order_service.outbox (sent_at) where sent_at is not null;
-- Read at each scrape. There are few such rows at any time.
create index outbox_undeliverable on order_service.outbox (id) where undeliverable_at is not null;
