/** `drain`: lets nothing new in, in all processes, and waits until nothing is under way, for the predecessor to come back. */
import { setTimeout as sleep } from 'node:timers/promises'
import { drain, type NotWaitedFor, type OpenWork, readOpenWork, undoDrain } from '../db/drain.ts'
import { type Command, msOf, TimedOut, type Tools, UsageError } from './command.ts'
import { safeJson } from './shown.ts'

const POLL_MS = 500

const openNames: Record<keyof OpenWork, [one: string, many: string]> = {
  transactions: ['earlier transaction', 'earlier transactions'],
  checkouts: ['checkout', 'checkouts'],
  payments: ['payment', 'payments'],
  events: ['event', 'events'],
  products: ['product', 'products'],
}
/** What to do where it does not end by itself. */
const openHints: Record<keyof OpenWork, string> = {
  transactions: "a session keeps a transaction open: select pid, state, query from pg_stat_activity where backend_type = 'client backend'",
  checkouts: 'they end within their budget; is a worker running?',
  payments: 'received and not applied; is a worker running, and does Catalog answer?',
  events: 'not acknowledged by Kafka; is a relay running, and is Kafka there?',
  products: 'a call to Catalog is under way, or Catalog is being reconciled; order-admin inventory --open',
}
const otherHints: Record<keyof NotWaitedFor, [what: string, hint: string]> = {
  deadLetters: ['dead letters', 'order-admin dead-letters list'],
  setAside: ['events that no broker takes', 'order_service.outbox where set_aside_at is not null'],
  oversold: ['oversold products', 'order-admin inventory --open'],
  lateCalls: ['calls to Catalog without an answer that may act late, for ten minutes', 'order-admin inventory --open'],
}

export const drainCommand: Command = {
  usage: '[--timeout SECONDS] [--json], or drain --undo [--json]',
  about: `Takes no new orders (503) and no new payments (they wait on their topic), and waits until nothing is under way.
      --timeout: gives up waiting then, with exit code 75. Still nothing new is taken; it can be repeated.
      --undo: takes new orders and payments again.`,
  options: { timeout: { type: 'string' }, undo: { type: 'boolean' }, json: { type: 'boolean' } },
  prepare({ values, positionals }) {
    if (positionals.length > 0) throw new UsageError(`drain takes no ${JSON.stringify(positionals[0])}`)
    const timeoutMs = msOf('--timeout', values.timeout)
    const json = values.json === true
    if (!values.undo) return (tools) => drainAndWait(tools, { timeoutMs, json })
    if (timeoutMs !== undefined) throw new UsageError('--undo does not wait; it takes no --timeout')
    return (tools) => undo(tools, json)
  },
}

async function undo({ pool, print }: Tools, json: boolean): Promise<true> {
  const wasDrained = await undoDrain(await pool())
  if (json) print(safeJson({ drained: false, wasDrained }))
  else print(wasDrained ? 'New orders and payments are taken again.' : 'The service was not drained; nothing was changed.')
  return true
}

/** Progress goes to stderr, the result to stdout. @returns false where it was undone meanwhile. @throws TimedOut */
async function drainAndWait(
  tools: Tools,
  { timeoutMs = Infinity, json }: { timeoutMs: number | undefined; json: boolean },
): Promise<boolean> {
  const pool = await tools.pool()
  const endsAt = performance.now() + timeoutMs
  const earlier = await drain(pool)
  say('New orders and payments are not taken from now on; order-admin drain --undo takes them again.')
  let said = ''
  for (;;) {
    const work = await readOpenWork(pool, earlier)
    if (!work) {
      say('Somebody has undone the drain: new orders and payments are taken again.')
      return false
    }
    const { open, notWaitedFor } = work
    const left = namesOf(open)
    const isEmpty = left.length === 0
    const hasTime = performance.now() < endsAt
    if (json && (isEmpty || !hasTime)) tools.print(safeJson({ drained: true, empty: isEmpty, open, notWaitedFor }))
    if (isEmpty) {
      if (!json) tools.print(['Nothing is under way.', ...shownOthers(notWaitedFor), 'Stop all processes now.'].join('\n'))
      return true
    }
    if (!hasTime)
      throw new TimedOut([`Not done after ${timeoutMs / 1000} s; still nothing new is taken.`, ...left.map(withHint(open))].join('\n'))
    const line = left.map((name) => counted(name, open)).join(', ')
    if (line !== said) say(`Under way: ${line}`)
    said = line
    await sleep(Math.min(POLL_MS, Math.max(0, endsAt - performance.now())))
  }
}

const say = (text: string) => void process.stderr.write(`${text}\n`)
const namesOf = (open: OpenWork) => (Object.keys(openNames) as (keyof OpenWork)[]).filter((name) => open[name] > 0)
const counted = (name: keyof OpenWork, open: OpenWork) => `${open[name]} ${openNames[name][open[name] === 1 ? 0 : 1]}`
const withHint = (open: OpenWork) => (name: keyof OpenWork) => `  ${counted(name, open)}: ${openHints[name]}`

function shownOthers(left: NotWaitedFor): string[] {
  return (Object.keys(otherHints) as (keyof NotWaitedFor)[])
    .filter((name) => left[name] > 0)
    .map((name) => `Not waited for: ${otherHints[name][0]}, ${left[name]} (${otherHints[name][1]})`)
}
