/** Reads and checks the environment; no other file reads it. Names and defaults are those of the existing stack (docs/configuration.md). */
import { createSecretKey, type KeyObject } from 'node:crypto'
import { z } from 'zod'
import { type KafkaSecurity, type KafkaVariables, kafkaProtocols, readKafkaSecurity, saslMechanisms } from './config/kafka-security.ts'
import { readPostgresDsn } from './config/postgres-dsn.ts'
import { readRedisUrl } from './config/redis-url.ts'

const wholeNumber = (min: number, max = Number.MAX_SAFE_INTEGER) => {
  const range = max === Number.MAX_SAFE_INTEGER ? `of ${min} or more` : `from ${min} to ${max}`
  const error = `is out of range; write a whole number ${range}`
  return z.coerce
    .number({ error: `is not a number; write a whole number ${range}` })
    .refine((value) => Number.isSafeInteger(value) && value >= min && value <= max, { error })
}
const port = wholeNumber(0, 65_535)
const positive = wholeNumber(1)
/** At least one day, since checkouts and payments that are still open may need the rows. */
const days = wholeNumber(1, 36_500)
const flag = z.enum(['true', 'false'], { error: 'is not a boolean; write true or false' }).transform((text) => text === 'true')
const oneOf = <const Words extends readonly string[]>(words: Words) =>
  z.enum(words, { error: `is unknown; write one of ${words.join(', ')}` })
const httpUrl = (example: string) =>
  z.string().refine((text) => /^https?:\/\/[^/?#]+/.test(text) && URL.canParse(text), { error: `is not an HTTP URL; write ${example}` })
const base = (example: string) => httpUrl(example).transform((text) => text.replace(/\/+$/, ''))
/** A check by a parser. The message of its error says what is wrong and does not contain the value. */
const parsedBy = (parse: (text: string) => unknown) => (text: string, context: z.RefinementCtx) => {
  try {
    parse(text)
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message })
  }
}

const environment = z.object({
  NODE_ENV: z.string().default('development'),
  HOST: z.string().default('0.0.0.0'),
  PORT: port.default(8000),
  METRICS_PORT: port.optional(),
  LOG_LEVEL: oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info'),
  MIGRATE: flag.default(true),

  POSTGRES_DSN: z
    .string()
    .default('postgresql+psycopg://postgres:postgres@postgres:5432/appdb')
    // `postgresql+psycopg://` names a Python driver; the rest of the DSN means the same here.
    .transform((dsn) => dsn.replace(/^postgres(ql)?(\+\w+)?:/, 'postgresql:'))
    .superRefine(parsedBy(readPostgresDsn)),
  POSTGRES_POOL: positive.default(4),
  POSTGRES_CONNECTION_TIMEOUT_MS: positive.default(2000),
  POSTGRES_STATEMENT_TIMEOUT_MS: positive.default(10000),
  REDIS_URL: z.string().superRefine(parsedBy(readRedisUrl)).default('redis://redis:6379/0'),
  REDIS_PREFIX: z
    .string()
    .regex(/^\{[^{}]+\}$/, { error: 'has no braces; write {order}, so that a Redis cluster keeps all queues in one slot' })
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
  // More concurrent calls gain nothing: Catalog serves 360/s at 16 and 280/s at 64; Shipping breaks at 128 (wire contract).
  CATALOG_CONCURRENCY: positive.default(16),
  SHIPPING_CONCURRENCY: positive.default(16),
  CALL_TIMEOUT_MS: positive.default(5000),

  JWT_SECRET: z.string().min(1).default('devsecret'),
  JWT_ALGORITHM: oneOf(['HS256', 'HS384', 'HS512']).default('HS256'),

  CHECKOUT_BUDGET_MS: positive.default(8000),
  // At 250 checkouts a second, 500 in flight wait 2 s of the budget of 8 s.
  MAX_IN_FLIGHT: positive.default(500),
  MAX_IN_FLIGHT_PER_CUSTOMER: positive.default(32),
  // A line takes at most 91 bytes of an event, and a broker accepts 1 MiB.
  MAX_CART_LINES: wholeNumber(1, 10_000).default(500),
  DUPLICATE_ORDER_WINDOW_MS: wholeNumber(0).default(0),
  // Per minute: twice what a customer gets who retries after each `Retry-After`. At this rate the order ids last for 34 years.
  MAX_REFUSED_PER_CUSTOMER: positive.default(120),
  // An order may be paid before its checkout has answered, but not ten minutes before.
  PAYMENT_GRACE_MS: positive.default(600000),
  PAYMENT_AMOUNT_CHECK: oneOf(['strict', 'off']).default('strict'),
  EMIT_ORDER_PAID: flag.default(false),
  WORKER_CONCURRENCY: positive.default(512),

  // Kafka keeps messages for 7 days by default; a consumer that lost its offset reads those again.
  RETENTION_OUTBOX_DAYS: days.default(7),
  RETENTION_CHECKOUT_DAYS: days.default(30),
  RETENTION_INBOX_DAYS: days.default(90),
  RETENTION_RECONCILIATIONS_DAYS: days.default(90),
  // A healthy component pauses for at most 15 s: three attempts of a send.
  WATCHDOG_MS: positive.default(30000),
})

/** Defaults that are public. They are refused with NODE_ENV=production. */
const developmentSecrets = { JWT_SECRET: 'devsecret', SVC_INTERNAL_KEY: 'devkey' } as const

/** The environment, read and checked. Times are in ms. */
export interface Config extends Omit<z.infer<typeof environment>, 'JWT_SECRET' | keyof KafkaVariables> {
  kafkaSecurity: KafkaSecurity
  /** A KeyObject, not a string: verifying a token takes 7.5 us with one and 31 us with the other. */
  jwtKey: KeyObject
}

/** Thrown by {@link readConfig}. `faults` has one line for each variable that is wrong, without the values of secrets. */
export class ConfigError extends Error {
  override name = 'ConfigError'
  readonly faults: readonly string[]

  constructor(faults: readonly string[]) {
    super(faults.join('\n'))
    this.faults = faults
  }
}

/** Variables whose value may be shown in an error message. The others can contain passwords or keys. */
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

/** @returns for example `REDIS_URL: "redis://" has no host; write redis://host:6379/0` */
function fault(variable: string, value: string, message: string): string {
  const isPrintable =
    printable.has(variable) ||
    /(_(MS|DAYS|CONCURRENCY|POOL)|^MAX_.*)$/.test(variable) ||
    (/_(URL|DSN|BASE)$/.test(variable) && /^[a-z+]*:\/*$/.test(value))
  return `${variable}: ${isPrintable ? JSON.stringify(value) : 'the value'} ${message}`
}

/** An empty variable counts as not set. @returns the variables of the schema, or one line for each that is wrong */
function read<Shape extends z.ZodRawShape>(schema: z.ZodObject<Shape>, env: Record<string, string | undefined>) {
  const given = Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => Boolean(entry[1])))
  const result = schema.safeParse(given)
  const faults = result.error?.issues.map(({ path, message }) => fault(String(path[0]), given[String(path[0])] ?? '', message)) ?? []
  return { given, faults, data: result.data }
}

/**
 * @param env usually `process.env`; an empty variable counts as not set
 * @throws ConfigError with all faults at once
 */
export function readConfig(env: Record<string, string | undefined>): Config {
  const { given, faults, data } = read(environment, env)
  if (env.NODE_ENV === 'production') {
    for (const [name, value] of Object.entries(developmentSecrets)) {
      if ((given[name] ?? value) === value)
        faults.push(`${name}: the value is the public development secret; set your own for NODE_ENV=production`)
    }
  }
  const kafka = data && readKafkaSecurity(data)
  faults.push(...(kafka?.faults ?? []))
  if (!data || !kafka || faults.length > 0) throw new ConfigError(faults)
  const { JWT_SECRET, ...rest } = data
  return { ...rest, kafkaSecurity: kafka.security, jwtKey: createSecretKey(JWT_SECRET, 'utf8') }
}

const adminEnvironment = environment.pick({ POSTGRES_DSN: true, REDIS_URL: true, REDIS_PREFIX: true, TOPIC_ORDER_EVENTS: true })

/** What `order-admin` needs. It works while other variables are wrong. */
export type AdminConfig = z.infer<typeof adminEnvironment>

const catalogEnvironment = environment.pick({ CATALOG_BASE: true, CATALOG_CONCURRENCY: true, CALL_TIMEOUT_MS: true })

/** What `order-admin` needs to read Catalog. */
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
