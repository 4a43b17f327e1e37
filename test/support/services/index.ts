/**
 * The servers the order service runs on, as real as in production: PostgreSQL, Redis and Kafka, started from here, on free
 * ports of 127.0.0.1, with their state under `.dev/`. They end with the process that started them, however that ends.
 */
import { allOrNone, type Stoppable } from './all-or-none.ts'
import type { Certificates } from './certificates.ts'
import { type Kafka, runKafka } from './kafka.ts'
import { type Postgres, runPostgres } from './postgres.ts'
import { type Redis, runRedis } from './redis.ts'
import { quiet, type Say, toTerminal } from './report.ts'
import { claim } from './state.ts'

export type { Kafka, Postgres, Redis }

export type Services = {
  postgresDsn: string
  redisUrl: string
  kafkaBootstrap: string
  /** Ends what was started here; servers that came from the environment go on. */
  stop(): Promise<void>
}

export type ServicesOptions = {
  /** State is kept in `.dev/<name>`, or `.dev/<name>-2` while another run uses that. */
  name: string
  /** Begin without the data of earlier runs. */
  fresh?: boolean
  quiet?: boolean
}

/** Starts the three side by side. One whose variable is set (POSTGRES_DSN, REDIS_URL, KAFKA_BOOTSTRAP) is used from there. */
export async function startServices({ name, fresh = false, quiet: silent = false }: ServicesOptions): Promise<Services> {
  const { POSTGRES_DSN, REDIS_URL, KAFKA_BOOTSTRAP } = process.env
  const say = silent ? quiet : toTerminal
  const notOurs = { stop: async () => {} }
  const { postgres, redis, kafka, stop } = await inState(name, (directory) => {
    const options = { directory, fresh, say }
    return allOrNone({
      postgres: POSTGRES_DSN === undefined ? runPostgres(options) : { dsn: POSTGRES_DSN, ...notOurs },
      redis: REDIS_URL === undefined ? runRedis(options) : { url: REDIS_URL, ...notOurs },
      kafka: KAFKA_BOOTSTRAP === undefined ? runKafka(options) : { bootstrap: KAFKA_BOOTSTRAP, ...notOurs },
    })
  })
  return { postgresDsn: postgres.dsn, redisUrl: redis.url, kafkaBootstrap: kafka.bootstrap, stop }
}

/** A server for one test alone, which may kill it. It begins empty; what it leaves is overwritten by the next of that name. */
export type OwnServerOptions = { name: string; port?: number }

/** PostgreSQL for one test alone. */
export const startPostgres = (options: OwnServerOptions & { certificates?: Certificates }): Promise<Postgres> => own(options, runPostgres)

/** Redis for one test alone. It comes back empty from a crash, unless it is `durable`. */
export const startRedis = (options: OwnServerOptions & { durable?: boolean }): Promise<Redis> => own(options, runRedis)

/** Kafka for one test alone; it is soon back after a crash, at the price of less patience with a stalled machine. */
export const startKafka = (options: OwnServerOptions & { certificates?: Certificates }): Promise<Kafka> =>
  own({ sessionTimeoutMs: 2000, ...options }, runKafka)

export type Servers = { postgres: Postgres; redis: Redis; kafka: Kafka }
export type OwnServers = Servers & Stoppable

/** All three for one test alone. */
export const startServers = (name: string): Promise<OwnServers> =>
  allOrNone({ postgres: startPostgres({ name }), redis: startRedis({ name }), kafka: startKafka({ name }) })

type Run<O, S> = (options: O & { directory: string; fresh: boolean; say: Say }) => Promise<S>

const own = <O extends OwnServerOptions, S extends Stoppable>(options: O, run: Run<O, S>): Promise<S> =>
  inState(options.name, (directory) => run({ ...options, directory, fresh: true, say: quiet }))

/** Runs it in a state directory of this name, which is free again when it has stopped, or did not start. */
async function inState<S extends Stoppable>(name: string, run: (directory: string) => Promise<S>): Promise<S> {
  const { directory, release } = await claim(name)
  try {
    const server = await run(directory)
    const { stop } = server
    return Object.assign(server, {
      async stop() {
        await stop()
        await release()
      },
    })
  } catch (error) {
    await release()
    throw error
  }
}
