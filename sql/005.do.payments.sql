-- A doubt locked its product's row against the statements that change it, and with such locks on an older version of a row PostgreSQL lets two
-- statements that lock their rows in one order wait for each other all the same. Doubts are written by a join with products, which lose no row.
alter table order_service.doubts drop constraint doubts_product_id_fkey;

-- Drawn for every driving of a payment event: no two events of one order ever have the same number, so that each of their calls is
-- a doubt of its own (doubts_one_a_call).
create sequence order_service.payment_attempts as integer;

-- The inbox: each payment event that could be read, once. What is true of it stands here; its job is a wake-up.
create table order_service.payment_events (
  id bigint generated always as identity primary key,
  identity text not null unique,                       -- sha256 of what makes it the same event (src/kafka/payment-message.ts)
  type text not null check (type in ('payment.succeeded', 'payment.failed')),
  order_id integer not null,                           -- as the event says: there may be no such order (yet)
  amount_cents bigint,
  currency text,
  provider text,
  payment_id text,
  details jsonb not null default '{}',                 -- {reason, code} of a failed payment
  state text not null default 'WAITING' check (state in ('WAITING', 'APPLIED', 'DEAD')),
  result text check (result in ('paid', 'already-paid', 'noted')),
  attempt integer not null default nextval('order_service.payment_attempts'),
  commit_call text not null default 'unknown' check (commit_call in ('settled', 'unknown')),
  last_error text,
  topic text not null,
  partition integer not null,
  kafka_offset bigint not null,
  key bytea,
  value bytea not null,
  headers text not null,                               -- JSON [[name, value in base64]]
  sent_at timestamptz not null,                        -- the message's own time
  received_at timestamptz not null default clock_timestamp(),
  waiting_since timestamptz not null default clock_timestamp(),  -- received, or replayed: the grace counts from here
  touched_at timestamptz not null default clock_timestamp(),     -- a job last looked at it
  constraint what_was_applied_has_a_result check ((state = 'APPLIED') = (result is not null))
) with (fillfactor = 80, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 500);

comment on column order_service.payment_events.commit_call is
  'what the attempts before left of their calls to commit: settled (each was answered, or its doubt is on record) or unknown';

create index payment_events_waiting on order_service.payment_events (id) where state = 'WAITING';
create index payment_events_by_order on order_service.payment_events (order_id);
-- The books are counted from it.
create index payment_events_by_state on order_service.payment_events (state);

-- Messages that a person has to look at: those that could not be read, and events that could not be applied.
create table order_service.dead_letters (
  id bigint generated always as identity primary key,
  event_id bigint unique references order_service.payment_events,  -- null: it was never read, or is another event's identity with other content
  topic text not null,
  partition integer not null,
  kafka_offset bigint not null,
  bytes_hash text not null,                            -- a topic that was made anew counts its offsets from 0 again
  key bytea,
  value bytea,                                         -- null: a message without a value
  headers text not null,
  sent_at timestamptz not null,
  fault text not null,                                 -- the kind: see src/model.ts
  reason text not null,
  state text not null default 'WAITING' check (state in ('WAITING', 'REPLAYED', 'DISCARDED')),
  note text,                                           -- why it was discarded
  times integer not null default 1,                    -- how often it died
  first_at timestamptz not null default clock_timestamp(),
  last_at timestamptz not null default clock_timestamp(),
  published_at timestamptz,                            -- on the topic for dead letters; null: yet to be
  publish_refused text,                                -- no broker takes it as it is
  constraint who_discards_says_why check ((state = 'DISCARDED') = (note is not null))
);
create unique index dead_letters_unread on order_service.dead_letters (topic, partition, kafka_offset, bytes_hash) where event_id is null;
create index dead_letters_waiting on order_service.dead_letters (id) where state = 'WAITING';
create index dead_letters_unpublished on order_service.dead_letters (id) where published_at is null and publish_refused is null;

-- consumed = applied + duplicate + dead + waiting + passed by: three are counted here, in the transaction that receives a batch;
-- the others are states of the rows above. One row a partition, so that two bridges never wait for each other.
create table order_service.bridge_books (
  topic text not null,
  partition integer not null,
  consumed bigint not null default 0,
  duplicate bigint not null default 0,
  passed_by bigint not null default 0,
  primary key (topic, partition)
);
