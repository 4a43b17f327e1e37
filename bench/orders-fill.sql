-- Fills a database with 1,000,000 orders and checkouts, 100,000 of them stuck, and 10,000 dead letters (bench/pages.ts).
-- 850,000 orders of this service, 50,000 of the predecessor, 60,000 open checkouts with a cause, 40,000 that ended without an order,
-- and 40,000 payments that wait with a cause.
set order_service.counts = 'off';
set synchronous_commit = off;

insert into public.orders (id, user_email, status, total_cents, currency, created_at, updated_at)
select i, 'customer-' || i % 200000 || '@example.com', case when i % 20 = 0 then 'CREATED' else 'PAID' end, 1299 + i % 100, 'USD',
  (now() - (1000000 - i) * interval '2 s') at time zone 'utc', (now() - (1000000 - i) * interval '2 s') at time zone 'utc'
from generate_series(1, 900000) i;
insert into public.order_items (order_id, product_id, qty, unit_price_cents, title_snapshot)
select i, case when i % 10 = 0 then 1 else 1 + i % 5000 end, 1, 1299, 'Air Zoom' from generate_series(1, 900000) i;
select setval('public.orders_id_seq', 1000000);

insert into order_service.checkouts (order_id, user_email, idempotency_key, request_hash, state, recovery_point, lines, address, total_cents,
  deadline_at, cause, service, last_error, outcome, history, created_at, updated_at)
select i, 'customer-' || i % 200000 || '@example.com', case when state in ('OPEN', 'CREATED') then 'key-' || i end, 'hash', state,
  case when state = 'CREATED' or i % 2 = 0 and state = 'OPEN' then 'reserve-stock' else 'intent' end,
  jsonb_build_array(jsonb_build_object('product_id', 1 + i % 5000, 'qty', 1, 'unit_price_cents', 1299, 'title_snapshot', 'Air Zoom')),
  '{"address_line1": "1 Demo Street", "address_line2": "", "city": "Dublin", "country": "IE", "postcode": "D01XYZ"}', 1299 + i % 100,
  now() + case when state = 'OPEN' then interval '1 day' else interval '0' end,
  cause, service, case when cause is not null then 'no answer within 5000 ms' end,
  case when state in ('REJECTED', 'CANCELLED') then '{"status": 503, "detail": "Catalog does not answer"}'::jsonb end,
  case when cause is null then '[]' else jsonb_build_array(jsonb_build_object('attempt', 1, 'step', 'reserve-stock', 'ms', 5000,
    'error', 'no answer within 5000 ms', 'at', now(), 'cause', cause, 'service', service)) end,
  now() - (1000000 - i) * interval '2 s',
  -- The rescuer takes up no checkout that was touched lately: these stay stuck.
  case when state = 'OPEN' then now() + interval '1 day' else now() - (1000000 - i) * interval '2 s' end
from (
  select i, case when i <= 900000 then 'CREATED' when i > 940000 then 'OPEN' when i % 2 = 0 then 'REJECTED' else 'CANCELLED' end as state,
    case when i <= 940000 then case when i > 900000 and i % 2 = 1 then 'downstream-timeout' end
      when i % 100 = 0 then 'downstream-error' when i % 3 = 0 then 'downstream-unreachable' else 'downstream-timeout' end as cause,
    case when i > 940000 or i > 900000 and i % 2 = 1 then case when i % 1000 = 0 then 'shipping' else 'catalog' end end as service
  from generate_series(50001, 1000000) i) made;

insert into order_service.payment_events (identity, type, order_id, amount_cents, currency, provider, payment_id, state, result, cause, service,
  last_error, history, topic, partition, kafka_offset, value, headers, sent_at, received_at, waiting_since, touched_at)
select 'paid-' || i, 'payment.succeeded', i, 1299 + i % 100, 'USD', 'card', 'payment-' || i,
  case when i % 20 = 0 and i > 100000 then 'WAITING' else 'APPLIED' end, case when i % 20 = 0 and i > 100000 then null else 'paid' end,
  case when i % 20 = 0 and i > 100000 then 'downstream-timeout' end, case when i % 20 = 0 and i > 100000 then 'catalog' end,
  case when i % 20 = 0 and i > 100000 then 'no answer within 5000 ms' end, '[]', 'payment.events', i % 6, i, '{}', '[]',
  now() - (1000000 - i) * interval '2 s', now() - (1000000 - i) * interval '2 s', now() - (1000000 - i) * interval '2 s',
  case when i % 20 = 0 and i > 100000 then now() + interval '1 day' else now() end
from generate_series(1, 900000) i;

with dead as (
  insert into order_service.payment_events (identity, type, order_id, amount_cents, currency, provider, payment_id, state, last_error,
    topic, partition, kafka_offset, value, headers, sent_at)
  select 'dead-' || i, 'payment.succeeded', i * 80, 1, 'USD', 'card', 'second-' || i, 'DEAD', 'the amount differs', 'payment.events', i % 6,
    1000000 + i, '{"amount_cents": 1}', '[]', now() from generate_series(1, 10000) i
  returning id, kafka_offset, partition
)
insert into order_service.dead_letters (event_id, topic, partition, kafka_offset, bytes_hash, value, headers, sent_at, fault, reason)
select id, 'payment.events', partition, kafka_offset, 'hash', '{"amount_cents": 1}', '[]', now(),
  case when kafka_offset % 10 = 0 then 'second-payment' else 'wrong-amount' end, 'the amount differs from the order' from dead;

insert into order_service.outbox (event_id, order_id, type, payload, created_at, sent_at, partition, kafka_offset)
select gen_random_uuid(), i, 'order.created', '{}', now(), now(), i % 6, i from generate_series(800001, 900000) i;
insert into order_service.products (product_id, expected_stock) select i, 1000000000 from generate_series(1, 5000) i;
insert into order_service.ambiguities (product_id, too_many, too_few, explanation)
select i * 100, 0, 2, 'others took 2, or our commit of 2 acted late' from generate_series(1, 20) i;
vacuum analyze;
