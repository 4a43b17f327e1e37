/** The commands for orders: `orders` searches, `order` shows one with its life. */
import { readOrderLife } from '../operators/order-life.ts'
import { BadQuery, readOrderQuery, whole } from '../operators/order-query.ts'
import { sentenceOf } from '../causes.ts'
import { money } from '../operators/order-timeline.ts'
import { type OrderLife, type OrderQuery, type OrderRow, searchOrders, type TimelineEntry } from '../operators/orders.ts'
import { MAX_INTEGER } from '../model.ts'
import { type Command, type Given, UsageError } from './command.ts'
import { safe, safeJson, shownTime, table } from './shown.ts'

const warn = (text: string) => void process.stderr.write(`${text}\n`)

export const ordersCommand: Command = {
  usage:
    '[--q TEXT] [--state STATE] [--cause CAUSE] [--service NAME] [--product ID] [--older-than SECONDS] [--after ID] [--limit N] [--json]',
  about: `Lists orders and checkouts, newest first; all conditions hold together.
      --q: an order id, an email, an idempotency key, or the id of a payment.
      --after: continues the list; each list that has more prints the ID to continue after.`,
  options: {
    q: { type: 'string' },
    state: { type: 'string' },
    cause: { type: 'string' },
    service: { type: 'string' },
    product: { type: 'string' },
    'older-than': { type: 'string' },
    after: { type: 'string' },
    limit: { type: 'string' },
    json: { type: 'boolean' },
  },
  prepare({ values, positionals }) {
    if (positionals.length > 0) throw new UsageError(`orders takes no argument ${JSON.stringify(positionals[0])}; write --q TEXT`)
    const query = queryOf(values)
    return async ({ pool, print }) => {
      const page = await searchOrders(await pool(), query)
      if (values.json) print(safeJson(page))
      else if (page.rows.length > 0) print(table([heading, ...page.rows.map(row)]))
      else print(page.next === null ? 'No order matches.' : 'None of the newest orders matches.')
      if (page.next !== null && !values.json) warn(`There may be more; --after ${page.next} continues.`)
      return true
    }
  },
}

function queryOf(values: Given['values']): OrderQuery {
  const { 'older-than': olderThan, json: _json, ...rest } = values
  return asUsage(() => readOrderQuery({ ...rest, ...(olderThan === undefined ? {} : { olderThan }) } as Record<string, string>))
}

/** @throws UsageError in place of BadQuery */
function asUsage<Out>(read: () => Out): Out {
  try {
    return read()
  } catch (error) {
    if (error instanceof BadQuery) throw new UsageError(error.message)
    throw error
  }
}

const heading = ['ORDER', 'STATE', 'CREATED', 'TOTAL', 'CAUSE', 'SERVICE', 'CUSTOMER']
const row = (one: OrderRow) => [
  String(one.orderId),
  safe(one.state),
  shownTime(one.createdAt),
  safe(money(one.totalCents, one.currency)),
  one.cause ?? '-',
  one.service ?? '-',
  one.email === null ? '-' : safe(one.email),
]

export const orderCommand: Command = {
  usage: 'ID [--json]',
  about: 'Shows where an order stands and what comes next, its life, and the actions that can help now.',
  options: { json: { type: 'boolean' } },
  prepare({ values, positionals }) {
    const [text, ...more] = positionals
    if (text === undefined || more.length > 0) throw new UsageError('order takes one id of an order')
    const id = asUsage(() => whole('The order’s id', text, { least: 1, most: MAX_INTEGER })!)
    return async ({ pool, nextRun, eventTopic, print }) => {
      const life = await readOrderLife(await pool(), id, { nextRun, eventTopic })
      if (!life) warn(`There is no order ${id}, and no checkout of this number.`)
      else print(values.json ? safeJson(life) : shown(life))
      return life !== undefined
    }
  },
}

function shown(life: OrderLife): string {
  return table([
    ['order', String(life.orderId)],
    ['summary', safe(life.summary)],
    ['state', safe(life.state)],
    ['cause', life.cause ? sentenceOf(life.cause, life.service) : '-'],
    ['total', safe(money(life.totalCents, life.currency))],
    ['customer', life.email === null ? '-' : safe(life.email)],
    ['idempotency key', life.idempotencyKey === null ? '-' : safe(life.idempotencyKey)],
    ...life.lines.map((line) => ['line', `${line.qty} of product ${line.product_id}: ${safe(line.title_snapshot)}`]),
    ...life.actions.map(({ verb, item }) => ['can help', `${verb} ${item}`]),
    ...life.timeline.map((entry) => [shownTime(entry.at), safe(entryText(entry))]),
  ])
}

function entryText({ isPlanned, title, detail, ms, cause, service, operator }: TimelineEntry): string {
  return [
    isPlanned ? `planned: ${title}` : title,
    ms !== null && ms !== undefined ? `after ${ms} ms` : '',
    cause ? sentenceOf(cause, service ?? null) : '',
    operator ? `by ${operator}` : '',
    detail ?? '',
  ]
    .filter(Boolean)
    .join('; ')
}
