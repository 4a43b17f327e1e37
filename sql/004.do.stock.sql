-- What Catalog should say of a product, and the one call of ours that is under way on it (docs/stock.md). Between two statements
--   reserved = held + foreign_holds + hold_correction
--   in_stock = expected_stock + stock_correction
-- save for the call under way, and for calls that act late.

-- A process draws a thousand numbers at a time: N to N + 999. No number is used twice, so a call's number is its fencing token.
create sequence order_service.call_ids increment by 1000;

create table order_service.products (
  product_id integer primary key,
  expected_stock bigint,                               -- null: nobody has asked Catalog about it yet
  held bigint not null default 0,                      -- units of orders CREATED and of open checkouts whose reserve is on record
  foreign_holds bigint not null default 0,             -- held at Catalog before we first asked, for no order of ours; below 0: holds of ours that it lost
  hold_correction bigint not null default 0,           -- units that Catalog holds too many (below 0: too few)
  stock_correction bigint not null default 0,          -- units that Catalog has too many (below 0: too few)
  -- The call under way: whoever has it here has the lease. No foreign key and no index on these: updates stay HOT.
  call_id bigint,
  call_verb text check (call_verb in ('reserve', 'commit', 'release', 'restock', 'check')),
  call_qty bigint,
  call_expires_at timestamptz,
  call_by text,                                        -- the process; null where a request took it with its intent
  -- Somebody waits: the process whose turn it is next. It counts until then.
  wanted_by text,
  wanted_until timestamptz,
  reconciling_since timestamptz,                       -- since then somebody reconciles it and is not done
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint a_call_is_whole check (num_nulls(call_id, call_verb, call_qty, call_expires_at) in (0, 4))
) with (fillfactor = 50);
-- Only columns that rarely change: an index over the call would end HOT updates (0 of 32,246 instead of 76,670 of 76,670).
create index products_to_reconcile on order_service.products (product_id)
  where hold_correction <> 0 or stock_correction <> 0 or foreign_holds < 0 or reconciling_since is not null;
-- Summed at each scrape.
create index products_with_foreign_holds on order_service.products (foreign_holds) where foreign_holds > 0;

-- What has yet to be taken over into a product's row: by whoever cannot lock it, or need not.
create table order_service.product_changes (
  id bigint generated always as identity primary key,
  product_id integer not null,
  call_id bigint,                                      -- this call is known to have happened; null: none is concerned
  held bigint not null default 0,                      -- so many units pass from hold_correction to held
  expected_stock bigint not null default 0,            -- so many units pass from stock_correction to expected_stock
  created_at timestamptz not null default clock_timestamp()
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
create index product_changes_by_product on order_service.product_changes (product_id);

-- Calls whose answer is missing, and what was found out about each: they may have happened, or may still happen.
create table order_service.unanswered_calls (
  call_id bigint not null,
  product_id integer not null,
  verb text not null check (verb in ('reserve', 'commit', 'release', 'restock')),
  qty bigint not null check (qty > 0),
  since timestamptz not null default clock_timestamp(),
  found text check (found in ('happened', 'not-happened')),  -- null: nobody has checked yet
  checked_at timestamptz,
  primary key (call_id, product_id)
);
create index unanswered_calls_by_product on order_service.unanswered_calls (product_id, since);
-- Counted at each scrape: few at any time.
create index unanswered_calls_unchecked on order_service.unanswered_calls (since) where found is null;

-- What was found and put right, for people. 'follow': others brought units or (below 0) took some. 'unexplained': no call of ours explains the hold.
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

-- Where two explanations fitted what Catalog said: units that it may offer too many since, or too few, at the most.
create table order_service.ambiguities (
  id bigint generated always as identity primary key,
  product_id integer not null,
  too_many bigint not null check (too_many >= 0),
  too_few bigint not null check (too_few >= 0),
  explanation text not null,
  at timestamptz not null default clock_timestamp(),
  check (too_many > 0 or too_few > 0)
);
create index ambiguities_by_product on order_service.ambiguities (product_id, at);

-- Orders can be changed by others: by the predecessor after going back, by support with SQL. What they change of our holds is counted
-- by triggers, with the rights of their owner; sessions of this service count for themselves, and pay nothing for them
-- (order_service.counts = 'off').
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
