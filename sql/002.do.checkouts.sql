-- One row per checkout: its intent, its recovery point and its outcome.
-- This row is the truth about a checkout; jobs in Redis only wake a worker up.
-- The states and their transitions are in src/model.ts.
create table order_service.checkouts (
  order_id integer primary key,                        -- from public.orders_id_seq, when the intent is written
  user_email text,                                     -- null: pruned
  idempotency_key text,                                -- the customer's, or 'cart <hash>' where none was sent; null when the claim or its window has ended
  request_hash text not null,
  state text not null default 'OPEN' check (state in ('OPEN', 'CREATED', 'REJECTED', 'CANCELLED')),
  recovery_point text not null default 'intent' check (recovery_point in ('intent', 'reserve-stock')),
  lines jsonb not null,                                -- [{product_id, qty, unit_price_cents, title_snapshot}]
  address jsonb,                                       -- null: pruned. {address_line1, address_line2, city, country, postcode}
  total_cents bigint not null check (total_cents >= 0),
  currency text not null default 'USD',
  deadline_at timestamptz not null,                    -- a checkout cannot become CREATED after this, by PostgreSQL's clock
  attempt integer not null default 1,                  -- fencing token: writes of older attempts are refused
  call_id bigint,                                      -- its latest call to Catalog (products.call_id)
  shipment_call text not null default 'unknown' check (shipment_call in ('unsent', 'answered', 'unknown')),
  last_error text,
  cause text,                                          -- of the last failed attempt (src/causes.ts)
  service text,                                        -- the downstream service at fault
  outcome jsonb,                                       -- {status, detail}: why it did not become an order
  history jsonb not null default '[]',                 -- [{attempt, step, at, ms, error, cause, service, stack}] of failed attempts
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  pruned_at timestamptz,                               -- when its payload and personal data were pruned (docs/operations.md)
  constraint a_row_that_ended_without_an_order_claims_no_key check (state in ('OPEN', 'CREATED') or idempotency_key is null),
  constraint only_what_ended_without_an_order_has_an_outcome check ((state in ('REJECTED', 'CANCELLED')) = (outcome is not null)),
  constraint an_order_holds_its_stock check (state <> 'CREATED' or recovery_point = 'reserve-stock'),
  constraint only_what_has_ended_is_pruned check (pruned_at is null or state <> 'OPEN'),
  constraint who_may_come_again_is_known check (user_email is not null or (pruned_at is not null and idempotency_key is null)),
  constraint an_address_goes_with_its_pruning check ((address is null) = (pruned_at is not null))
) with (fillfactor = 80, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 500);

comment on column order_service.checkouts.shipment_call is
  'the shipment calls of earlier attempts: unsent (none reached Shipping), answered (each got a 5xx) or unknown';

-- A customer's key has one live row. A repeated request joins an OPEN checkout, or gets the answer of a CREATED one.
create unique index checkouts_live_key on order_service.checkouts (user_email, idempotency_key);
-- Queries need the literal 'OPEN': with a parameter, a generic plan never uses this index.
create index checkouts_open on order_service.checkouts (order_id) where state = 'OPEN';
-- For the operators' pages. An ordinary checkout has no cause, and its row is in none of these but the last, if its customer sent a key.
create index checkouts_by_cause on order_service.checkouts (state, cause, order_id) where cause is not null;
create index checkouts_open_by_cause on order_service.checkouts (cause, coalesce(service, '~'), order_id) where state = 'OPEN' and cause is not null;
create index checkouts_without_order on order_service.checkouts (order_id) where state in ('REJECTED', 'CANCELLED');
create index checkouts_by_key on order_service.checkouts (idempotency_key) where idempotency_key not like 'cart %';
-- On created_at, since it never changes: an index on updated_at would get a new entry for every update.
create index checkouts_to_prune on order_service.checkouts (created_at) where state <> 'OPEN' and pruned_at is null;

-- One row while the service is drained (bin/order-admin drain): no intent is written, and no payment is received.
create table order_service.drain (
  only_row boolean primary key default true check (only_row),
  since timestamptz not null default clock_timestamp()
);
