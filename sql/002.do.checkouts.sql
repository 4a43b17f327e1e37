-- One row a checkout: the intent, what became of it, and how far it came. What is true of a checkout stands here;
-- jobs in Redis are wake-ups. The states and what may follow what: src/model.ts.
create table order_service.checkouts (
  order_id integer primary key,                        -- drawn from public.orders_id_seq when the intent is written
  user_email text,                                     -- null: pruned
  idempotency_key text,                                -- the customer's, or 'cart <hash>' where none was sent; leaves the row with its claim, or when its window is over
  request_hash text not null,
  state text not null default 'OPEN' check (state in ('OPEN', 'CREATED', 'REJECTED', 'CANCELLED')),
  recovery_point text not null default 'intent' check (recovery_point in ('intent', 'reserve-stock')),
  lines jsonb not null,                                -- [{product_id, qty, unit_price_cents, title_snapshot}]
  address jsonb,                                       -- null: pruned. {address_line1, address_line2, city, country, postcode}
  total_cents bigint not null check (total_cents >= 0),
  currency text not null default 'USD',
  deadline_at timestamptz not null,                    -- never CREATED after this, by PostgreSQL's clock
  attempt integer not null default 1,                  -- fencing number: a write of an older attempt is refused
  call_id bigint,                                      -- the call to Catalog that it is in, or was in last (products.call_id)
  shipment_call text not null default 'unknown' check (shipment_call in ('unsent', 'answered', 'unknown')),
  last_error text,
  outcome jsonb,                                       -- {status, detail}: what ended it, where it did not become an order
  history jsonb not null default '[]',                 -- [{attempt, step, at, ms, error}] of attempts that failed
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  pruned_at timestamptz,                               -- payload and personal data of what is over are pruned (docs/operations.md)
  constraint a_row_that_ended_without_an_order_claims_no_key check (state in ('OPEN', 'CREATED') or idempotency_key is null),
  constraint only_what_ended_without_an_order_has_an_outcome check ((state in ('REJECTED', 'CANCELLED')) = (outcome is not null)),
  constraint an_order_holds_its_stock check (state <> 'CREATED' or recovery_point = 'reserve-stock'),
  constraint only_what_has_ended_is_pruned check (pruned_at is null or state <> 'OPEN'),
  constraint who_may_come_again_is_known check (user_email is not null or (pruned_at is not null and idempotency_key is null)),
  constraint an_address_goes_with_its_pruning check ((address is null) = (pruned_at is not null))
) with (fillfactor = 80, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 500);

comment on column order_service.checkouts.shipment_call is
  'what the attempts before left of their calls for a shipment: unsent (none reached Shipping), answered (refused with a 5xx) or unknown';

-- One live row for a customer's key: a repeat joins an OPEN checkout or gets a CREATED one's answer again.
create unique index checkouts_live_key on order_service.checkouts (user_email, idempotency_key);
-- A literal in the predicate: a parameter in its place would never use the index under a generic plan.
create index checkouts_open on order_service.checkouts (order_id) where state = 'OPEN';
-- By created_at, which never changes: an index on updated_at would make a new entry for every sign of life.
create index checkouts_to_prune on order_service.checkouts (created_at) where state <> 'OPEN' and pruned_at is null;

-- One row while an operator drains the service (bin/order-admin drain): no intent is written and no payment is received.
create table order_service.drain (
  only_row boolean primary key default true check (only_row),
  since timestamptz not null default clock_timestamp()
);
