/** Keeps the whole thing running for development: servers with their data kept, stub downstreams, and the service with reload on change. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { startServices } from './index.ts'
import { start } from './processes.ts'
import { checkout } from './state.ts'

const stopped = Promise.race((['SIGINT', 'SIGTERM', 'SIGHUP'] as const).map((signal) => once(process, signal)))
const { PORT = '8000' } = process.env

const services = await startServices({ name: 'dev' })
let downstreams: ChildProcess | undefined
try {
  const env = { POSTGRES_DSN: services.postgresDsn, REDIS_URL: services.redisUrl, KAFKA_BOOTSTRAP: services.kafkaBootstrap, PORT }
  // Without a supervisor: they end with their standard input, and so with us.
  downstreams = spawn(process.execPath, ['test/support/downstreams/main.ts'], {
    cwd: checkout,
    detached: true, // a Ctrl-C is for us; the service still calls them while it ends
    env: { ...process.env, ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const addresses = await Promise.race([firstLine(downstreams), stopped])
  if ('catalog' in addresses) {
    const { catalog, shipping, auth, control } = addresses
    console.log(`Downstreams: Catalog ${catalog}, Shipping ${shipping}, Auth ${auth}, control ${control}`)
    console.log(`Order service: http://127.0.0.1:${PORT}, reloading on change; Ctrl-C ends it all`)
    const service = await start({
      command: [process.execPath, '--watch', '--watch-preserve-output', 'src/main.ts'],
      directory: checkout,
      env: { ...env, CATALOG_BASE: catalog, SHIPPING_BASE: shipping, AUTH_BASE: auth },
      graceMs: 16_000, // the service itself takes up to 15 s to finish what runs
    })
    await Promise.race([service.exited, stopped])
    console.log('Order service: stopping')
    await service.end()
  }
} finally {
  downstreams?.stdin?.end()
  await services.stop()
}

type Addresses = Record<'catalog' | 'shipping' | 'auth' | 'control', string>

async function firstLine(program: ChildProcess): Promise<Addresses> {
  const ended = once(program, 'exit').then(([code]) => {
    throw new Error(`The stub downstreams ended with exit code ${code} while starting`)
  })
  const [line] = await Promise.race([once(createInterface(program.stdout!), 'line'), ended])
  return JSON.parse(line)
}
