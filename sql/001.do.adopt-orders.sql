-- The order service's tables in `public`, as the predecessor created them.
-- Tables and rows that already exist are not changed. Times are in UTC, without a time zone.
create table if not exists public.orders (
  id serial primary key,
  user_email varchar(255) not null,
  status varchar(32) not null default 'CREATED',
  total_cents bigint not null,
  currency varchar(3) not null default 'USD',
  created_at timestamp without time zone not null default (now() at time zone 'utc'),
  updated_at timestamp without time zone not null default (now() at time zone 'utc')
);

-- Indexes that were built concurrently beforehand are used (docs/operations.md, "Taking over").
-- An invalid index would be skipped without a message, so it stops the migration.
do $$
declare
  broken text;
begin
  select string_agg(indexrelid::regclass::text, ', ') into broken from pg_index
  where not indisvalid and indexrelid = any(array[to_regclass('public.ix_orders_user_email'),
    to_regclass('public.ix_order_items_order_id'), to_regclass('public.order_items_by_product')]);
  if broken is not null then
    raise exception 'invalid index: %; wait until its concurrent build ends, or drop it and build it again', broken using errcode = '42P17';
  end if;
end $$;

create index if not exists ix_orders_user_email on public.orders (user_email);

create table if not exists public.order_items (
  id serial primary key,
  order_id integer not null references public.orders (id) on delete cascade,
  product_id integer not null,
  qty integer not null,
  unit_price_cents bigint not null,
  title_snapshot varchar(255) not null
);
create index if not exists ix_order_items_order_id on public.order_items (order_id);

-- For the operators' inventory check: it sums the units that orders hold of a product, and lists the orders.
create index if not exists order_items_by_product on public.order_items (product_id);
