-- The inbox: each readable payment event, once. This row is the truth about an event; its job only wakes a worker up.
create table order_service.payment_events (
  id bigint generated always as identity primary key,
  identity text not null unique,                       -- sha256 of what identifies the event (src/kafka/payment-message.ts)
  type text not null check (type in ('payment.succeeded', 'payment.failed')),
  order_id integer not null,                           -- from the event: the order may not exist (yet)
  amount_cents bigint,
  currency text,
  provider text,
  payment_id text,
  details jsonb not null default '{}',                 -- {reason, code} of a failed payment
  state text not null default 'WAITING' check (state in ('WAITING', 'APPLIED', 'DEAD')),
  result text check (result in ('paid', 'already-paid', 'recorded')),
  attempt integer not null default 1,                  -- fencing token: writes of older attempts are refused
  call_id bigint,                                      -- its latest call to Catalog (products.call_id)
  last_error text,
  cause text,                                          -- of the last failed attempt (src/causes.ts)
  service text,                                        -- the downstream service at fault
  history jsonb not null default '[]',                 -- [{attempt, at, error, cause, service, stack}] of failed attempts, the latest 20
  topic text not null,
  partition integer not null,
  kafka_offset bigint not null,
  key bytea,
  value bytea,                                         -- null: pruned
  headers text not null,                               -- JSON [[name, value in base64]]
  sent_at timestamptz not null,                        -- the message's timestamp
  received_at timestamptz not null default clock_timestamp(),
  waiting_since timestamptz not null default clock_timestamp(),  -- when it was received or replayed: the grace period begins here
  touched_at timestamptz not null default clock_timestamp(),     -- when a job last read it
  pruned_at timestamptz,                               -- when the bytes of an applied event were pruned (docs/operations.md)
  constraint what_was_applied_has_a_result check ((state = 'APPLIED') = (result is not null)),
  constraint only_what_is_over_is_pruned check (pruned_at is null or state <> 'WAITING'),
  constraint bytes_go_with_their_pruning check ((value is null) = (pruned_at is not null))
) with (fillfactor = 80, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 500);

create index payment_events_waiting on order_service.payment_events (id) where state = 'WAITING';
create index payment_events_by_order on order_service.payment_events (order_id);
-- Finds the members of a call without an answer.
create index payment_events_by_call on order_service.payment_events (call_id) where state = 'WAITING';
-- For the operators' pages. A payment that meets no fault is in the last alone.
create index payment_events_by_cause on order_service.payment_events (cause, id) where state = 'WAITING' and cause is not null;
create index payment_events_by_cause_and_service on order_service.payment_events (cause, coalesce(service, '~'), id) where state = 'WAITING' and cause is not null;
create index payment_events_by_cause_and_order on order_service.payment_events (cause, coalesce(service, '~'), order_id)
  where state = 'WAITING' and cause is not null;
create index payment_events_by_payment on order_service.payment_events (payment_id) where payment_id is not null;
-- Partial: an index on the state of every event would be read for each payment until the table is analyzed.
create index payment_events_dead on order_service.payment_events (id) where state = 'DEAD';
create index payment_events_to_prune on order_service.payment_events (received_at) where state = 'APPLIED' and pruned_at is null;

-- Messages that need a person: they could not be read, or their event could not be applied.
create table order_service.dead_letters (
  id bigint generated always as identity primary key,
  event_id bigint unique references order_service.payment_events,  -- null: the message is unreadable, or has the identity of another event with other content
  topic text not null,
  partition integer not null,
  kafka_offset bigint not null,
  bytes_hash text not null,                            -- tells messages of a topic apart from those after it was recreated, whose offsets begin at 0
  key bytea,
  value bytea,                                         -- null: a message without a value
  headers text not null,
  sent_at timestamptz not null,
  fault text not null,                                 -- the kind (src/model.ts)
  reason text not null,
  state text not null default 'WAITING' check (state in ('WAITING', 'REPLAYED', 'DISCARDED')),
  note text,                                           -- why it was discarded
  times integer not null default 1,                    -- how often it became a dead letter
  first_at timestamptz not null default clock_timestamp(),
  last_at timestamptz not null default clock_timestamp(),
  published_at timestamptz,                            -- on the dead-letter topic; null: not yet
  undeliverable_reason text,                           -- why the broker refuses it for good
  pruned_at timestamptz,
  constraint what_waits_for_a_person_is_whole check (pruned_at is null or state <> 'WAITING'),
  constraint who_discards_says_why check ((state = 'DISCARDED') = (note is not null))
);
create unique index dead_letters_unread on order_service.dead_letters (topic, partition, kafka_offset, bytes_hash) where event_id is null;
create index dead_letters_to_prune on order_service.dead_letters (last_at) where state <> 'WAITING' and pruned_at is null;
create index dead_letters_waiting on order_service.dead_letters (id) where state = 'WAITING';
create index dead_letters_by_fault on order_service.dead_letters (fault, id) where state = 'WAITING';
-- Read at each scrape.
create index dead_letters_not_applied on order_service.dead_letters (id, event_id) where state <> 'REPLAYED';
create index dead_letters_unpublished on order_service.dead_letters (id) where published_at is null and undeliverable_reason is null;

-- consumed = applied + duplicate + dead + waiting + ignored.
-- `consumed`, `duplicate` and `ignored` are counted here, in the transaction that receives a batch. The others are states of rows above.
-- There is one row per partition, so that two bridges never wait for each other.
create table order_service.bridge_totals (
  topic text not null,
  partition integer not null,
  consumed bigint not null default 0,
  received bigint not null default 0,                  -- rows of payment_events: counting all of them at each scrape would take too long
  duplicate bigint not null default 0,
  ignored bigint not null default 0,
  primary key (topic, partition)
);

-- Messages that the topic no longer had when the bridge read it. A loss is recorded once, however often the bridge retries.
create table order_service.bridge_losses (
  topic text not null,
  partition integer not null,
  from_offset bigint not null,
  up_to_offset bigint not null,                        -- the first offset that still existed
  noticed_at timestamptz not null default clock_timestamp(),
  primary key (topic, partition, from_offset)
);
