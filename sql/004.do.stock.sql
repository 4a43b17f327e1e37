-- What Catalog's inventory of a product should be, and our one call in flight (docs/stock.md).
-- Between two statements, except for calls in flight and calls that act late:
--   reserved = held + foreign_holds + hold_correction
--   in_stock = expected_stock + stock_correction

-- A process takes a thousand numbers at a time: N to N + 999. No number is used twice: a call id is a fencing token.
create sequence order_service.call_ids increment by 1000;

create table order_service.products (
  product_id integer primary key,
  expected_stock bigint,                               -- null: Catalog has not been read yet
  held bigint not null default 0,                      -- units of orders CREATED and of open checkouts whose reserve is on record
  foreign_holds bigint not null default 0,             -- holds at Catalog before our first read that belong to no order of ours; below 0: our holds that Catalog lost
  hold_correction bigint not null default 0,           -- units that Catalog holds in excess (below 0: missing)
  stock_correction bigint not null default 0,          -- units in stock at Catalog in excess (below 0: missing)
  -- The call in flight: its process has the lease. These columns have no foreign key and no index, so that updates stay HOT.
  call_id bigint,
  call_verb text check (call_verb in ('reserve', 'commit', 'release', 'restock', 'check')),
  call_qty bigint,
  call_expires_at timestamptz,
  call_by text,                                        -- the process; null where a request acquired the lease with its intent
  -- The process that gets the product next, and until when that counts.
  wanted_by text,
  wanted_until timestamptz,
  reconciling_since timestamptz,                       -- when its unfinished reconciliation began
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint a_call_is_whole check (num_nulls(call_id, call_verb, call_qty, call_expires_at) in (0, 4))
) with (fillfactor = 50);
-- Only columns that rarely change: an index on the call would prevent HOT updates (0 of 32,246 instead of 76,670 of 76,670).
create index products_to_reconcile on order_service.products (product_id)
  where hold_correction <> 0 or stock_correction <> 0 or foreign_holds < 0 or reconciling_since is not null;
-- Read at each scrape.
create index products_with_foreign_holds on order_service.products (foreign_holds) where foreign_holds > 0;

-- Changes that are not yet applied to a product's row. They come from statements that could not lock the row, or need not.
create table order_service.product_changes (
  id bigint generated always as identity primary key,
  product_id integer not null,
  call_id bigint,                                      -- a call that is known to have happened; null: no call
  held bigint not null default 0,                      -- units that move from hold_correction to held
  expected_stock bigint not null default 0,            -- units that move from stock_correction to expected_stock
  created_at timestamptz not null default clock_timestamp()
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
create index product_changes_by_product on order_service.product_changes (product_id);

-- Calls without an answer: they may have happened, or may still happen. `found` is what a later check of Catalog showed.
create table order_service.unanswered_calls (
  call_id bigint not null,
  product_id integer not null,
  verb text not null check (verb in ('reserve', 'commit', 'release', 'restock')),
  qty bigint not null check (qty > 0),
  since timestamptz not null default clock_timestamp(),
  found text check (found in ('happened', 'not-happened')),  -- null: not checked yet
  checked_at timestamptz,
  primary key (call_id, product_id)
);
create index unanswered_calls_by_product on order_service.unanswered_calls (product_id, since);
-- Read at each scrape. There are few such rows at any time.
create index unanswered_calls_unchecked on order_service.unanswered_calls (since) where found is null;

-- What the reconciler found and corrected, for operators.
-- 'follow': others added units, or (below 0) removed some. 'unexplained': no call of ours explains the hold.
create table order_service.reconciliations (
  id bigint generated always as identity primary key,
  product_id integer not null,
  verb text not null check (verb in ('reserve', 'commit', 'restock', 'release', 'follow', 'unexplained')),
  qty bigint not null,
  result text not null check (result in ('done', 'refused', 'unanswered', 'seen', 'happened')),
  reason text check (reason in ('stock-missing', 'held-for-nobody', 'hold-missing', 'stock-extra')),
  call_id bigint,
  at timestamptz not null default clock_timestamp()
);
create index reconciliations_by_product on order_service.reconciliations (product_id, at);

-- Where two explanations fitted Catalog's inventory: at most so many units may be offered in excess since then, or too few.
create table order_service.ambiguities (
  id bigint generated always as identity primary key,
  product_id integer not null,
  too_many bigint not null check (too_many >= 0),
  too_few bigint not null check (too_few >= 0),
  explanation text not null,
  accepted_at timestamptz,                             -- when an operator accepted Catalog's inventory
  at timestamptz not null default clock_timestamp(),
  check (too_many > 0 or too_few > 0)
);
create index ambiguities_by_product on order_service.ambiguities (product_id, at);

-- Others can change orders: the predecessor after going back, or support with SQL.
-- Triggers count how that changes our holds, with the rights of their owner.
-- Sessions of this service switch them off, since their statements count holds themselves (order_service.counts = 'off').
create function order_service.count_items() returns trigger language plpgsql
  security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into order_service.product_changes (product_id, held)
  select i.product_id, sum(i.qty * i.sign)
  from (
    select order_id, product_id, qty, 1 as sign from items_after
    union all select order_id, product_id, qty, -1 from items_before
  ) i join public.orders o on o.id = i.order_id
  where o.status = 'CREATED' group by i.product_id having sum(i.qty * i.sign) <> 0;
  return null;
end $$;

create function order_service.count_inserted_items() returns trigger language plpgsql
  security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into order_service.product_changes (product_id, held)
  select i.product_id, sum(i.qty) from items_after i join public.orders o on o.id = i.order_id
  where o.status = 'CREATED' group by i.product_id;
  return null;
end $$;

create function order_service.count_deleted_items() returns trigger language plpgsql
  security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into order_service.product_changes (product_id, held)
  select i.product_id, -sum(i.qty) from items_before i join public.orders o on o.id = i.order_id
  where o.status = 'CREATED' group by i.product_id;
  return null;
end $$;

create function order_service.count_order() returns trigger language plpgsql
  security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into order_service.product_changes (product_id, held)
  select product_id, sum(qty) * case when old.status = 'CREATED' then -1 else 1 end
  from public.order_items where order_id = old.id group by product_id;
  return case when tg_op = 'DELETE' then old else new end;
end $$;

create trigger order_service_items_inserted after insert on public.order_items referencing new table as items_after
  for each statement when (current_setting('order_service.counts', true) is distinct from 'off')
  execute function order_service.count_inserted_items();
create trigger order_service_items_updated after update on public.order_items
  referencing old table as items_before new table as items_after
  for each statement when (current_setting('order_service.counts', true) is distinct from 'off')
  execute function order_service.count_items();
create trigger order_service_items_deleted after delete on public.order_items referencing old table as items_before
  for each statement when (current_setting('order_service.counts', true) is distinct from 'off')
  execute function order_service.count_deleted_items();
create trigger order_service_order_updated before update of status on public.orders for each row
  when ((old.status = 'CREATED') <> (new.status = 'CREATED') and current_setting('order_service.counts', true) is distinct from 'off')
  execute function order_service.count_order();
create trigger order_service_order_deleted before delete on public.orders for each row
  when (old.status = 'CREATED' and current_setting('order_service.counts', true) is distinct from 'off')
  execute function order_service.count_order();
