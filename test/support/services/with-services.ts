/** Runs a program beside servers started for it: `with-services.ts <name of the state> <program> [arguments]`. */
import { constants } from 'node:os'
import { startServices } from './index.ts'
import { type Started, start } from './processes.ts'
import { checkout } from './state.ts'

const [name, ...command] = process.argv.slice(2)
if (!name || command.length === 0) throw new Error('Usage: with-services.ts <name of the state> <program> [arguments]')

let running: Started | undefined
let interrupted: number | undefined
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    interrupted = 128 + constants.signals[signal]
    void running?.end()
  })
}

const services = await startServices({ name, fresh: true })
try {
  if (interrupted === undefined) {
    const env = { POSTGRES_DSN: services.postgresDsn, REDIS_URL: services.redisUrl, KAFKA_BOOTSTRAP: services.kafkaBootstrap }
    running = await start({ command, directory: checkout, env })
    process.exitCode = await running.exited
  }
} finally {
  await services.stop()
  process.exitCode = interrupted ?? process.exitCode
}
