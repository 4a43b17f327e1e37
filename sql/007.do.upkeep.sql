-- What the reaper prunes (docs/upkeep.md): payloads and personal data of what is over. Keys, identities and outcomes stay.

-- A finished checkout's address and cart, and the email of one that became no order: an order's own row has its customer's.
alter table order_service.checkouts
  add column pruned_at timestamptz,
  alter column user_email drop not null,
  alter column address drop not null,
  add constraint only_what_has_ended_is_pruned check (pruned_at is null or state <> 'OPEN'),
  add constraint who_may_come_again_is_known check (user_email is not null or (pruned_at is not null and idempotency_key is null)),
  add constraint an_address_goes_with_its_pruning check ((address is null) = (pruned_at is not null));
-- By created_at, which never changes: an index on updated_at would make a new entry for every sign of life.
create index checkouts_to_prune on order_service.checkouts (created_at) where state <> 'OPEN' and pruned_at is null;

create index outbox_sent on order_service.outbox (sent_at) where sent_at is not null;
-- Counted at each scrape: few at any time.
create index outbox_set_aside on order_service.outbox (id) where set_aside_at is not null;

-- The bytes of a payment event that was applied, and of a dead letter that was dealt with.
alter table order_service.payment_events
  add column pruned_at timestamptz,
  alter column value drop not null,
  add constraint only_what_is_over_is_pruned check (pruned_at is null or state <> 'WAITING'),
  add constraint bytes_go_with_their_pruning check ((value is null) = (pruned_at is not null));
create index payment_events_to_prune on order_service.payment_events (received_at) where state = 'APPLIED' and pruned_at is null;

alter table order_service.dead_letters
  add column pruned_at timestamptz,
  add constraint what_waits_for_a_person_is_whole check (pruned_at is null or state <> 'WAITING');
create index dead_letters_to_prune on order_service.dead_letters (last_at) where state <> 'WAITING' and pruned_at is null;

-- Why a mending call was made, and for which order the call was that turned out to have happened.
alter table order_service.mendings
  add column order_id integer,
  add column why text check (why in ('stock-short', 'hold-of-nobody', 'hold-missing', 'stock-extra')),
  drop constraint mendings_answer_check,
  add constraint mendings_answer_check check (answer in ('done', 'refused', 'unknown', 'seen', 'happened'));

-- Since when somebody mends the product and has not brought its books to agree; null: they do, or nobody has come yet.
alter table order_service.products add column mending_since timestamptz;

-- Where what Catalog said fitted several stories: pieces that may be offered too many since, or too few, at the most.
create table order_service.undecided (
  id bigint generated always as identity primary key,
  product_id integer not null,
  why text not null check (why in ('two-stories', 'sold')),  -- sold: pieces restocked too many were sold before they could be taken back
  too_many bigint not null check (too_many >= 0),
  too_few bigint not null check (too_few >= 0),
  taken jsonb not null,                                -- [{verb, qty, since}]: what was taken to have happened
  doubts jsonb not null,                               -- [{verb, qty, since}]: of what it was chosen
  at timestamptz not null default clock_timestamp(),
  check (too_many > 0 or too_few > 0)
);
create index undecided_by_product on order_service.undecided (product_id, at);
