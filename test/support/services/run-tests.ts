/**
 * Runs the tests on servers started for them: `run-tests.ts [arguments for ava]`. The last line it prints is `N passed, N failed`,
 * and everything that makes a run worthless counts as failed: a file that does not load, does not end or throws beside its tests.
 */
import { globSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import { startServices } from './index.ts'
import { type Started, start } from './processes.ts'
import { checkout } from './state.ts'
import { tally } from './tally.ts'

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

const result = await runAva().catch((error: Error) => ({ output: '', code: report(error) }))
const total = tally(result.output, interrupted ?? result.code)
process.exitCode = interrupted ?? (result.code || (total.failed > 0 ? 1 : 0))
console.log(`${total.passed} passed, ${total.failed} failed`)

async function runAva(): Promise<{ output: string; code: number }> {
  refuseOnly()
  const services = await startServices({ name: 'test', fresh: true })
  try {
    if (interrupted) return { output: '', code: interrupted }
    running = await start(
      {
        command: [process.execPath, ava, ...args],
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
  } finally {
    await services.stop()
  }
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
