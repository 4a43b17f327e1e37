/** `drain`: stops all processes from accepting new work and waits until open work is finished, before going back to the predecessor. */
import { setTimeout as sleep } from 'node:timers/promises'
import { drain, type NotWaitedFor, type OpenWork, readEntering, readOpenWork } from '../db/drain.ts'
import type { ActionRequest } from '../operators/action.ts'
import { type Command, msOf, TimedOut, type Tools, UsageError } from './command.ts'
import { AT_COMMAND_LINE, recordedBy, recordOptions } from './operator.ts'
import { safeJson } from './shown.ts'

const POLL_MS = 500

const openNames: Record<keyof OpenWork, [one: string, many: string]> = {
  transactions: ['earlier transaction', 'earlier transactions'],
  checkouts: ['checkout', 'checkouts'],
  payments: ['payment', 'payments'],
  events: ['event', 'events'],
  products: ['product', 'products'],
}
/** What to do if the work does not end by itself. */
const openHints: Record<keyof OpenWork, string> = {
  transactions: "a session keeps a transaction open: select pid, state, query from pg_stat_activity where backend_type = 'client backend'",
  checkouts: 'they end within their budget; check that a worker is running',
  payments: 'received but not applied; check that a worker is running and that Catalog answers',
  events: 'not acknowledged by Kafka; check that a relay is running and that Kafka is up',
  products: 'a call to Catalog is in flight, or Catalog is being reconciled; see order-admin inventory --open',
}
const otherHints: Record<keyof NotWaitedFor, [what: string, hint: string]> = {
  deadLetters: ['dead letters', 'order-admin dead-letters list'],
  undeliverable: ['undeliverable events, which Kafka does not accept', 'order_service.outbox where undeliverable_at is not null'],
  oversold: ['oversold products', 'order-admin inventory --open'],
  lateCalls: ['unanswered calls to Catalog that may still act, for ten minutes', 'order-admin inventory --open'],
}

export const drainCommand: Command = {
  usage: '[--timeout SECONDS] [--json], or drain --undo [--json]; both: [--reason TEXT] [--operator NAME]',
  about: `Refuses new orders (503), leaves new payments on their topic, and waits until all open work is finished.
      --timeout: stops waiting then, with exit code 75. The service stays drained, and the command can be repeated.
      --undo: accepts new orders and payments again.`,
  options: { ...recordOptions, timeout: { type: 'string' }, undo: { type: 'boolean' }, json: { type: 'boolean' } },
  prepare({ values, positionals }) {
    if (positionals.length > 0) throw new UsageError(`drain takes no argument ${JSON.stringify(positionals[0])}`)
    const timeoutMs = msOf('--timeout', values.timeout)
    const json = values.json === true
    const by = recordedBy(values, AT_COMMAND_LINE)
    if (!values.undo) return (tools) => drainAndWait(tools, { timeoutMs, json, by })
    if (timeoutMs !== undefined) throw new UsageError('--undo does not wait; leave out --timeout')
    return (tools) => undo(tools, json, by)
  },
}

type By = Pick<ActionRequest, 'operator' | 'reason'>

async function undo({ actions, print }: Tools, json: boolean, by: By): Promise<true> {
  const { changed } = await (await actions()).act({ verb: 'accept-work', selection: {}, ...by })
  const wasDrained = changed > 0
  if (json) print(safeJson({ drained: false, wasDrained }))
  else print(wasDrained ? 'New orders and payments are accepted again.' : 'The service was not drained; nothing was changed.')
  return true
}

/** Prints progress to stderr and the result to stdout. @returns false if the drain was undone meanwhile. @throws TimedOut */
async function drainAndWait(
  tools: Tools,
  { timeoutMs = Infinity, json, by }: { timeoutMs: number | undefined; json: boolean; by: By },
): Promise<boolean> {
  const pool = await tools.pool()
  const endsAt = performance.now() + timeoutMs
  await (await tools.actions()).inTransaction({ verb: 'drain', selection: {}, ...by }, async (tx) =>
    (await drain(tx))
      ? { result: 'changed', detail: 'new orders and payments are not accepted' }
      : { result: 'unchanged', detail: 'the service was drained already' },
  )
  const earlier = await readEntering(pool)
  warn('New orders and payments are not accepted from now on; order-admin drain --undo accepts them again.')
  let printed = ''
  for (;;) {
    const work = await readOpenWork(pool, earlier)
    if (!work) {
      warn('The drain was undone by another operator: new orders and payments are accepted again.')
      return false
    }
    const { open, notWaitedFor } = work
    const left = namesOf(open)
    const isEmpty = left.length === 0
    const hasTime = performance.now() < endsAt
    if (json && (isEmpty || !hasTime)) tools.print(safeJson({ drained: true, empty: isEmpty, open, notWaitedFor }))
    if (isEmpty) {
      if (!json) tools.print(['All open work is finished.', ...shownOthers(notWaitedFor), 'Stop all processes now.'].join('\n'))
      return true
    }
    if (!hasTime)
      throw new TimedOut(
        [
          `Open work is not finished after ${timeoutMs / 1000} s; new orders and payments are still not accepted.`,
          ...left.map(withHint(open)),
        ].join('\n'),
      )
    const line = left.map((name) => counted(name, open)).join(', ')
    if (line !== printed) warn(`Open work: ${line}`)
    printed = line
    await sleep(Math.min(POLL_MS, Math.max(0, endsAt - performance.now())))
  }
}

const warn = (text: string) => void process.stderr.write(`${text}\n`)
const namesOf = (open: OpenWork) => (Object.keys(openNames) as (keyof OpenWork)[]).filter((name) => open[name] > 0)
const counted = (name: keyof OpenWork, open: OpenWork) => `${open[name]} ${openNames[name][open[name] === 1 ? 0 : 1]}`
const withHint = (open: OpenWork) => (name: keyof OpenWork) => `  ${counted(name, open)}: ${openHints[name]}`

function shownOthers(left: NotWaitedFor): string[] {
  return (Object.keys(otherHints) as (keyof NotWaitedFor)[])
    .filter((name) => left[name] > 0)
    .map((name) => `Not waited for: ${otherHints[name][0]}, ${left[name]} (${otherHints[name][1]})`)
}
