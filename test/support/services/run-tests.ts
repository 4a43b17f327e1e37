/**
 * Runs the tests on servers started for them: `run-tests.ts [arguments for ava]`. The last line it prints is `N passed, N failed`,
 * and everything that makes a run worthless counts as failed: a file that does not load, does not end or throws beside its tests.
 */
import { globSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import { findChromium } from './chromium.ts'
import { startServices } from './index.ts'
import { type Started, start } from './processes.ts'
import { checkout } from './state.ts'
import { failedTests, tally, whatFailed } from './tally.ts'

const args = process.argv.slice(2)
const ava = join(checkout, 'node_modules', 'ava', 'entrypoints', 'cli.js')
let running: Started | undefined
let interrupted: number | undefined

for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(name, () => {
    interrupted = 128 + constants.signals[name]
    void running?.end()
  })
}

const result = await runTests().catch((error: Error) => ({ output: '', code: report(error) }))
const total = tallyOf(result)
process.exitCode = interrupted ?? (result.code || (total.failed > 0 ? 1 : 0))
console.log(`${total.passed} passed, ${total.failed} failed`)

type Services = Awaited<ReturnType<typeof startServices>>

interface Ran {
  output: string
  code: number
  /** What failed, run once more. */
  again?: Ran | undefined
}

function tallyOf({ output, code, again }: Ran): { passed: number; failed: number } {
  const first = tally(output, interrupted ?? code)
  if (!again) return first
  const { failed } = tally(again.output, interrupted ?? again.code)
  return { passed: first.passed + Math.max(0, first.failed - failed), failed }
}

async function runTests(): Promise<Ran> {
  refuseOnly()
  if (args.length === 0 || args.some((arg) => arg.includes('browser'))) await findChromium()
  const services = await startServices({ name: 'test', fresh: true })
  const whole: Ran = { output: '', code: 0 }
  const runs = args.length > 0 ? [args] : inTwoRuns()
  const failures: string[] = []
  try {
    for (const run of runs) {
      if (interrupted) return { output: '', code: interrupted }
      const { output, code } = await runAva(run, services)
      whole.output += output
      whole.code ||= code
      if (code !== 0) failures.push(whatFailed(output))
    }
    // Who reads the end of a log sees what failed in the first run too.
    if (runs.length > 1 && failures.length > 0) console.log(`\nWhat failed, of both runs:\n${failures.join('')}`)
    const failed = runs.length > 1 ? failedTests(whole.output, runs.flat()) : undefined
    if (!failed || interrupted) return whole
    const again = await runAgain(failed, services)
    return { ...whole, code: again.code, again }
  } finally {
    await services.stop()
  }
}

/** Beside dozens of processes or a browser, two cores have no time left for tests of what happens in how many milliseconds. */
function inTwoRuns(): string[][] {
  const isCrowded = (file: string) => /^test\/(boundaries|torture|browser)\//.test(file)
  const files = globSync('test/**/*.test.ts', { cwd: checkout }).sort()
  return [files.filter((file) => !isCrowded(file)), ['--concurrency', '2', ...files.filter(isCrowded)]]
}

/** Each file alone. What passes then is named all the same: a test, or the service, has a race. */
async function runAgain({ titles, files }: { titles: string[]; files: string[] }, services: Services): Promise<Ran> {
  console.log(`\nOnce more, alone: ${files.join(' ')}`)
  const again = await runAva(['--concurrency', '1', ...files], services)
  if (again.code === 0) console.log(`\nFailed beside other files, and passed alone:\n${titles.map((title) => `  ${title}\n`).join('')}`)
  return again
}

async function runAva(some: readonly string[], services: Services): Promise<Ran> {
  running = await start(
    {
      command: [process.execPath, ava, ...some],
      directory: checkout,
      env: {
        NODE_ENV: 'test',
        FORCE_COLOR: '0', // the lines are counted
        POSTGRES_DSN: services.postgresDsn,
        REDIS_URL: services.redisUrl,
        KAFKA_BOOTSTRAP: services.kafkaBootstrap,
      },
    },
    'pipe',
  )
  let output = ''
  for await (const chunk of running.stdout!.setEncoding('utf8')) {
    process.stdout.write(chunk)
    output += chunk
  }
  return { output, code: await running.exited }
}

/** A `test.only` left behind would quietly skip the rest of its file. */
function refuseOnly() {
  if (args.length > 0) return
  const files = globSync('test/**/*.test.ts', { cwd: checkout })
  const narrowed = files.filter((file) => /\btest(\.\w+)*\.only\(/.test(readFileSync(join(checkout, file), 'utf8')))
  if (narrowed.length > 0) throw new Error(`test.only skips the rest of its file; take it out of ${narrowed.join(', ')}`)
}

function report(error: Error): number {
  console.error(error.message)
  return 1
}
