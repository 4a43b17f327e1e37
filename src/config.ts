/** The only reader of the environment. Names and defaults of today's stack are kept (docs/configuration.md). */
import { createSecretKey, type KeyObject } from 'node:crypto'
import { z } from 'zod'
import { type KafkaSecurity, type KafkaVariables, kafkaProtocols, readKafkaSecurity, saslMechanisms } from './config/kafka-security.ts'
import { readPostgresDsn } from './config/postgres-dsn.ts'
import { readRedisUrl } from './config/redis-url.ts'

const port = z.coerce.number().int().min(0).max(65_535)
const positive = z.coerce.number().int().min(1)
/** A day at the least: what is under way may still need it. */
const days = z.coerce.number().int().min(1).max(36_500)
const flag = z.enum(['true', 'false']).transform((text) => text === 'true')
const oneOf = <const Words extends readonly string[]>(words: Words) => z.enum(words, { error: `is not one of ${words.join(', ')}` })
const httpUrl = (example: string) =>
  z.string().refine((text) => /^https?:\/\/[^/?#]+/.test(text) && URL.canParse(text), { error: `is not a URL; write ${example}` })
const base = (example: string) => httpUrl(example).transform((text) => text.replace(/\/+$/, ''))
/** Text that a reader understands, whose error says what is wrong without the value. */
const readableBy = (understand: (text: string) => unknown) => (text: string, context: z.RefinementCtx) => {
  try {
    understand(text)
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message })
  }
}

const environment = z.object({
  NODE_ENV: z.string().default('development'),
  HOST: z.string().default('0.0.0.0'),
  PORT: port.default(8000),
  METRICS_PORT: port.optional(),
  LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info'),
  MIGRATE: flag.default(true),

  POSTGRES_DSN: z
    .string()
    .default('postgresql+psycopg://postgres:postgres@postgres:5432/appdb')
    // `postgresql+psycopg://` names a driver of another language; the address behind it is the same.
    .transform((dsn) => dsn.replace(/^postgres(ql)?(\+\w+)?:/, 'postgresql:'))
    .superRefine(readableBy(readPostgresDsn)),
  POSTGRES_POOL: positive.default(4),
  POSTGRES_CONNECTION_TIMEOUT_MS: positive.default(2000),
  POSTGRES_STATEMENT_TIMEOUT_MS: positive.default(10000),
  REDIS_URL: z.string().superRefine(readableBy(readRedisUrl)).default('redis://redis:6379/0'),
  REDIS_PREFIX: z
    .string()
    .regex(/^\{[^{}]+\}$/, { error: 'needs braces around it, so that a Redis cluster keeps all queues together; write {order}' })
    .default('{order}'),
  KAFKA_BOOTSTRAP: z
    .string()
    .default('kafka:9092')
    .transform((list) => list.split(',').map((broker) => broker.trim()))
    .refine((brokers) => brokers.every((broker) => /^[^\s:/]+:\d+$/.test(broker) && URL.canParse(`kafka://${broker}`)), {
      error: 'is not a list of host:port; write kafka-1:9092,kafka-2:9092',
    }),
  KAFKA_SECURITY_PROTOCOL: oneOf(kafkaProtocols).default('PLAINTEXT'),
  KAFKA_SASL_MECHANISM: oneOf(saslMechanisms).optional(),
  KAFKA_SASL_USERNAME: z.string().optional(),
  KAFKA_SASL_PASSWORD: z.string().optional(),
  KAFKA_SSL_CA: z.string().optional(),
  KAFKA_SSL_CERT: z.string().optional(),
  KAFKA_SSL_KEY: z.string().optional(),
  TOPIC_ORDER_EVENTS: z.string().min(1).default('order.events'),
  TOPIC_PAYMENT_EVENTS: z.string().min(1).default('payment.events'),
  TOPIC_PAYMENT_EVENTS_DLQ: z.string().min(1).default('payment.events.dlq'),
  CREATE_PAYMENT_TOPIC: flag.optional(),
  KAFKA_GROUP: z.string().min(1).default('order-service'),

  CATALOG_BASE: base('http://catalog:8000').default('http://catalog:8000'),
  SHIPPING_BASE: base('http://shipping:8000').default('http://shipping:8000'),
  AUTH_BASE: base('http://auth:8000').default('http://auth:8000'),
  SVC_INTERNAL_KEY: z.string().min(1).default('devkey'),
  // More calls at a time gain nothing at either of them: Catalog serves 360/s at 16 and 280/s at 64; Shipping breaks at 128 (wire contract).
  CATALOG_CONCURRENCY: positive.default(16),
  SHIPPING_CONCURRENCY: positive.default(16),
  CALL_TIMEOUT_MS: positive.default(5000),

  JWT_SECRET: z.string().min(1).default('devsecret'),
  JWT_ALGORITHM: oneOf(['HS256', 'HS384', 'HS512']).default('HS256'),

  CHECKOUT_BUDGET_MS: positive.default(8000),
  // At 250 checkouts a second so many wait for 2 s of the budget, and a slower moment leaves time.
  MAX_IN_FLIGHT: positive.default(500),
  MAX_IN_FLIGHT_PER_CUSTOMER: positive.default(32),
  // A line is at most 91 bytes of an event, and a broker takes 1 MiB.
  MAX_CART_LINES: positive.max(10_000).default(500),
  DUPLICATE_ORDER_WINDOW_MS: z.coerce.number().int().min(0).default(0),
  // In a minute; twice as many as a customer gets who comes again after each `Retry-After`. At this pace the order ids last for 34 years.
  MAX_REFUSED_PER_CUSTOMER: positive.default(120),
  // An order may be paid before its checkout has answered, hardly ten minutes before.
  PAYMENT_GRACE_MS: positive.default(600000),
  PAYMENT_AMOUNT_CHECK: oneOf(['strict', 'off']).default('strict'),
  EMIT_ORDER_PAID: flag.default(false),
  WORKER_CONCURRENCY: positive.default(512),

  // A consumer that lost its place is told once more what Kafka itself keeps for 7 days by default.
  RETENTION_OUTBOX_DAYS: days.default(7),
  RETENTION_CHECKOUT_DAYS: days.default(30),
  RETENTION_INBOX_DAYS: days.default(90),
  RETENTION_RECONCILIATIONS_DAYS: days.default(90),
  // The longest pause of a component that works is 15 s: three tries of a send.
  WATCHDOG_MS: positive.default(30000),
})

/** What nobody may run with in production: the secrets that stand in the stack's documentation. */
const developmentSecrets = { JWT_SECRET: 'devsecret', SVC_INTERNAL_KEY: 'devkey' } as const

/** The environment, read and checked. Times are in ms. */
export interface Config extends Omit<z.infer<typeof environment>, 'JWT_SECRET' | keyof KafkaVariables> {
  kafkaSecurity: KafkaSecurity
  /** A KeyObject, not a string: verifying a token takes 7.5 us with one and 31 us with the other. */
  jwtKey: KeyObject
}

/** Thrown by {@link readConfig}; `faults` has one line for each variable that is wrong. Values of secrets are in none of them. */
export class ConfigError extends Error {
  override name = 'ConfigError'
  readonly faults: readonly string[]

  constructor(faults: readonly string[]) {
    super(faults.join('\n'))
    this.faults = faults
  }
}

/** Variables whose value may be shown in an error message. The others can carry passwords or keys. */
const printable = new Set([
  'HOST',
  'PORT',
  'METRICS_PORT',
  'LOG_LEVEL',
  'MIGRATE',
  'JWT_ALGORITHM',
  'KAFKA_BOOTSTRAP',
  'KAFKA_SECURITY_PROTOCOL',
  'KAFKA_SASL_MECHANISM',
  'REDIS_PREFIX',
])

function fault(variable: string, value: string | undefined, message: string): string {
  const shown = printable.has(variable) || /(_(MS|DAYS|CONCURRENCY|POOL)|^MAX_.*)$/.test(variable) ? `: ${JSON.stringify(value)}` : ''
  return `${variable} ${message}${shown}`
}

/** A variable that is empty counts as not set. @returns the variables of the schema, or one line for each that is wrong */
function read<Shape extends z.ZodRawShape>(schema: z.ZodObject<Shape>, env: Record<string, string | undefined>) {
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''))
  const result = schema.safeParse(given)
  const faults = result.error?.issues.map(({ path, message }) => fault(String(path[0]), env[String(path[0])], message)) ?? []
  return { given, faults, data: result.data }
}

/**
 * @param env usually `process.env`; a variable that is empty counts as not set
 * @throws ConfigError naming all faults at once
 */
export function readConfig(env: Record<string, string | undefined>): Config {
  const { given, faults, data } = read(environment, env)
  if (env.NODE_ENV === 'production') {
    for (const [name, value] of Object.entries(developmentSecrets)) {
      if ((given[name] ?? value) === value) faults.push(`${name} is the development secret; set one of your own for NODE_ENV=production`)
    }
  }
  const kafka = data && readKafkaSecurity(data)
  faults.push(...(kafka?.faults ?? []))
  if (!data || !kafka || faults.length > 0) throw new ConfigError(faults)
  const { JWT_SECRET, ...rest } = data
  return { ...rest, kafkaSecurity: kafka.security, jwtKey: createSecretKey(JWT_SECRET, 'utf8') }
}

const adminEnvironment = environment.pick({ POSTGRES_DSN: true, REDIS_URL: true, REDIS_PREFIX: true })

/** What the operators' command line needs of it: it works where the rest is wrong. */
export type AdminConfig = z.infer<typeof adminEnvironment>

const catalogEnvironment = environment.pick({ CATALOG_BASE: true, CATALOG_CONCURRENCY: true, CALL_TIMEOUT_MS: true })

/** What it needs to look at Catalog. */
export type CatalogConfig = z.infer<typeof catalogEnvironment>

/** @throws ConfigError */
export function readCatalogConfig(env: Record<string, string | undefined>): CatalogConfig {
  const { faults, data } = read(catalogEnvironment, env)
  if (!data) throw new ConfigError(faults)
  return data
}

/** @throws ConfigError */
export function readAdminConfig(env: Record<string, string | undefined>): AdminConfig {
  const { faults, data } = read(adminEnvironment, env)
  if (!data) throw new ConfigError(faults)
  return data
}
