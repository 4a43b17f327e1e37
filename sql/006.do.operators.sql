-- What operators did: the record of each action, and of each item that it acted on.
create table order_service.operator_actions (
  id bigint generated always as identity primary key,
  verb text not null,                                  -- src/causes.ts
  operator text not null,                              -- email of the account, or 'user@host' at the command line
  reason text not null check (reason <> ''),
  selection jsonb not null,                            -- what was chosen: {cause, service}, {items: [id]}, {queue, job, jobs}; an edit: {items, value in base64}
  state text not null check (state in ('RUNNING', 'PAUSED', 'ABORTED', 'DONE')),
  per_second integer check (per_second > 0),           -- null: done at once, in the transaction of the request
  items integer not null,
  done integer not null default 0,                     -- items whose result is known
  changed integer not null default 0,                  -- items that the action changed
  failed integer not null default 0,                   -- items on which it could not be carried out
  created_at timestamptz not null default clock_timestamp(),
  ended_at timestamptz,
  constraint what_has_ended_says_when check ((ended_at is not null) = (state in ('ABORTED', 'DONE')))
);
-- An operator who starts a bulk action that already runs is told so. A selection may name more items than an index entry has room for.
create unique index operator_actions_running on order_service.operator_actions (verb, md5(selection::text))
  where state in ('RUNNING', 'PAUSED');
-- Items of actions that ended long ago are pruned.
create index operator_actions_edits on order_service.operator_actions (ended_at) where verb = 'edit-letter' and jsonb_exists(selection, 'value');
create index operator_actions_ended on order_service.operator_actions (ended_at) where ended_at is not null;

-- The frozen set of an action. `item` is an order id, or the id of a payment event, outbox row, dead letter, product or action; 0 stands
-- for a queue or the service.
create table order_service.operator_action_items (
  action_id bigint not null references order_service.operator_actions on delete cascade,
  item bigint not null,
  result text check (result in ('changed', 'unchanged', 'failed')),  -- null: not done yet
  detail text,
  at timestamptz,
  primary key (action_id, item)
);
create index operator_action_items_to_do on order_service.operator_action_items (action_id, item) where result is null;
create index operator_action_items_failed on order_service.operator_action_items (action_id, item) where result = 'failed';
create index operator_action_items_by_item on order_service.operator_action_items (item);

-- What each process reports of itself every two seconds. A row without a report for six seconds is of a process that died.
create unlogged table order_service.processes (
  process text primary key,
  roles text[] not null,
  started_at timestamptz not null,
  seen_at timestamptz not null,
  ended_at timestamptz,                                -- when it ended in order
  status jsonb not null                                -- src/db/processes.ts
) with (fillfactor = 50);

-- A row a minute, added up by all processes, for the charts of the operators' pages. Kept for 30 days.
create table order_service.minutes (
  minute timestamptz primary key,
  created integer not null default 0,                  -- checkouts by outcome
  rejected integer not null default 0,
  cancelled integer not null default 0,
  paid integer not null default 0,
  answers integer[] not null default '{}',             -- checkouts by answer time, in the buckets of src/telemetry/metrics.ts
  payments integer[] not null default '{}',            -- payments by the time from their message to PAID, in the same
  queue_age_ms integer not null default 0,             -- the oldest in that minute
  outbox_age_ms integer not null default 0
);
