-- What Catalog's books of a product should say, and what we know it to say beyond that (design: docs/stock.md):
--   reserved = our holds (orders CREATED + open checkouts whose reserve is on record) + drift + extra_hold + the doubts that happened
--   in_stock = predicted_stock + extra_stock + the doubts that happened
create table order_service.products (
  product_id integer primary key,
  drift integer not null,                              -- holds at Catalog that were nobody's before we first looked
  predicted_stock bigint not null,
  extra_hold bigint not null default 0,                -- held at Catalog and by no row of ours: to be given back (or, below 0, to be taken)
  extra_stock bigint not null default 0,               -- pieces that our own mending added (or, below 0, took): to be put right
  epoch integer not null default 1,                    -- raised by whoever mends: a record under an older one is refused
  unsellable boolean not null default false,           -- a hold that mending needed was refused by Catalog: sold twice, for operators
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
) with (fillfactor = 70);

-- Calls that got no answer: they may have happened, or may still happen.
create table order_service.doubts (
  id bigint generated always as identity primary key,
  product_id integer not null references order_service.products,
  verb text not null check (verb in ('reserve', 'commit', 'restock', 'release')),
  qty integer not null check (qty > 0),
  order_id integer,                                    -- null: a mending call
  attempt integer,                                     -- of the order's checkout; null: a mending call
  since timestamptz not null default clock_timestamp(),
  looked_at timestamptz                                -- null: nobody has looked at Catalog since
);
create index doubts_by_product on order_service.doubts (product_id);
-- Whoever finds a call unanswered writes it down: its holder, the next taker of its lease, the next attempt. It is one call.
create unique index doubts_one_a_call on order_service.doubts (order_id, attempt, verb, product_id);

-- What was mended, when, by how much. verb 'follow': somebody else changed in_stock and the prediction went along.
create table order_service.mendings (
  id bigint generated always as identity primary key,
  product_id integer not null,
  verb text not null check (verb in ('reserve', 'commit', 'restock', 'release', 'follow', 'unexplained-hold')),
  qty bigint not null,
  answer text not null check (answer in ('done', 'refused', 'unknown', 'seen')),
  at timestamptz not null default clock_timestamp()
);
create index mendings_by_product on order_service.mendings (product_id, at);
