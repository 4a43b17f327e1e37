/** The campaign: bin/torture [--seed 1] [--seeds 1] [--checkouts 500] [--seconds 36] [--minutes M] [--plan] */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startServers } from '../support/services/index.ts'
import { checkout } from '../support/services/state.ts'
import { purchasesOf } from './purchases.ts'
import { tooManyOff } from './invariants.ts'
import { fullCounts, kinds, MOST_LATE_MS, planOf, tell } from './plan.ts'
import { type Result, runSeed } from './seed.ts'
import { carryOut } from './strikes.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '1' },
    checkouts: { type: 'string', default: '500' },
    seconds: { type: 'string', default: '36' },
    minutes: { type: 'string' },
    plan: { type: 'boolean', default: false },
  },
})
const seconds = (ms: number) => (ms / 1000).toFixed(1)
const say = (line: string) => process.stdout.write(`${line}\n`)
const first = number('seed')
const seeds = number('seeds')
const lastsMs = number('seconds') * 1000
const checkouts = number('checkouts')
const until = values.minutes === undefined ? undefined : performance.now() + number('minutes') * 60_000
const plans = (seed: number) => planOf(seed, { lastsMs, counts: fullCounts })

if (values.plan) for (const strike of plans(first)) say(tell(strike))
else await campaign()

function number(option: 'seed' | 'seeds' | 'seconds' | 'checkouts' | 'minutes'): number {
  const text = values[option]!
  if (/^\d{1,9}$/.test(text)) return Number(text)
  process.stderr.write(`--${option} is not a whole number: "${text}"; write --${option}=20\n`)
  process.exit(64)
}

async function campaign(): Promise<void> {
  const servers = await startServers('torture')
  const results: Result[] = []
  try {
    for (let seed = first; until === undefined ? seed < first + seeds : seed === first || performance.now() < until; seed += 1) {
      const purchases = purchasesOf(seed, { checkouts, lastsMs })
      const result = await runSeed(servers, { seed, purchases, latestMs: MOST_LATE_MS, strike: (field) => carryOut(plans(seed), field) })
      results.push(result)
      sayResult(result)
    }
  } finally {
    await servers.stop()
  }
  sayAll(results)
}

/** How often customers were told what. */
function answersOf({ evidence }: Result): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { status, unknown } of evidence.told.flatMap(({ answers }) => answers)) {
    const what = status === 0 ? 'none' : unknown ? `${status} unknown` : String(status)
    counts[what] = (counts[what] ?? 0) + 1
  }
  return counts
}

function sayResult(result: Result): void {
  const { seed, struck, orders, units, drafts, unitsOff, faults, violations, finishedMs, exactMs, lastOpen, evidence } = result
  const strikes = kinds.map((kind) => `${kind} ${struck[kind] ?? 0}`).join(', ')
  say(`seed ${seed}: ${orders} orders of ${units} units; ${strikes}`)
  const answers = Object.entries(answersOf(result)).map(([status, count]) => `${status} ${count}`)
  say(`  answers: ${answers.join(', ')}; ${evidence.corrections} corrections`)
  say(`  finished ${seconds(finishedMs)} s after the last strike (${lastOpen || 'at once'}), inventory exact after ${seconds(exactMs)} s`)
  if (drafts.length > 0) say(`  drafts at Shipping of checkouts that became no order: ${drafts.join(', ')}`)
  for (const { productId, units: off } of unitsOff) say(`  Catalog's stock of product ${productId} is off by ${off}`)
  if (faults.length > 0) say(`  ended by themselves: ${faults.join(', ')}`)
  for (const violation of violations) say(`  VIOLATION ${violation}`)
  if (violations.length === 0) return
  const file = join(checkout, '.dev', 'torture-logs', `seed-${seed}.json`)
  writeFileSync(file, JSON.stringify({ ...result, evidence: { ...result.evidence, paid: [...result.evidence.paid] } }, undefined, 1))
  say(`  all of it: ${file}, and the log beside it`)
}

/** The last lines: a table as it stands in docs/reliability.md. */
function sayAll(results: readonly Result[]): void {
  const sum = (of: (result: Result) => number) => results.reduce((all, result) => all + of(result), 0)
  const off = sum(({ unitsOff }) => unitsOff.reduce((all, { units }) => all + Math.abs(units), 0))
  const units = sum((result) => result.units)
  const tooMany = tooManyOff(off, units)
  const violations = sum((result) => result.violations.length) + tooMany.length
  for (const line of tooMany) say(`VIOLATION ${line}`)
  say('')
  say('| | |\n| --- | --- |')
  say(`| seeds | ${results[0]?.seed} to ${results.at(-1)?.seed}, ${checkouts} checkouts each |`)
  say(`| orders | ${sum(({ orders }) => orders)}, of ${units} units |`)
  say(`| payments | ${sum(({ evidence }) => evidence.paying.length)} orders PAID |`)
  const answers = results.map(answersOf)
  for (const what of ['200', '503', '503 unknown', 'none']) {
    say(`| answers: ${what} | ${answers.reduce((all, counts) => all + (counts[what] ?? 0), 0)} |`)
  }
  for (const kind of kinds) say(`| \`${kind}\` | ${sum(({ struck }) => struck[kind] ?? 0)} |`)
  say(`| ended by themselves | ${sum(({ faults }) => faults.length)} |`)
  say(`| drafts of checkouts that became no order | ${sum(({ drafts }) => drafts.length)} |`)
  say(`| corrections | ${sum(({ evidence }) => evidence.corrections)} |`)
  say(`| units that Catalog has too many or too few | ${off} |`)
  say(`| nothing open after the last strike | at most ${seconds(Math.max(...results.map(({ finishedMs }) => finishedMs)))} s |`)
  say(`| inventory exact after the last strike | at most ${seconds(Math.max(...results.map(({ exactMs }) => exactMs)))} s |`)
  say(`| **violations** | **${violations}** |`)
  process.exitCode = violations === 0 ? 0 : 1
}
