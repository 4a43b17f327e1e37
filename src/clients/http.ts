/**
 * HTTP client of the downstream services: a pool of persistent connections, a limit of concurrent calls and a time-out. For each call
 * without an answer it tells whether the call can have reached the service.
 */
import type { Socket } from 'node:net'
import pLimit from 'p-limit'
import { withoutEmails } from '../telemetry/error-fields.ts'
import { buildConnector, Pool } from 'undici'
import type { Metrics } from '../telemetry/metrics.ts'
import { type Fault, services } from '../causes.ts'
import { type BreakerState, createBreaker, PROBE_EVERY_MS } from './breaker.ts'
import { type HealthWatch, type ServiceHealth, watchHealth } from './health.ts'

/** An answer of a downstream service. The body is undefined if it is not JSON. */
export interface Answer {
  status: number
  body: unknown
  /** From the `Retry-After` of a 429 or 503. */
  retryAfterMs?: number | undefined
  /** As in {@link NoAnswer}: if a gateway answered, the call behind it may run until then. */
  settlesAt: number
}

/** Statuses of a gateway that got no clear answer itself. The call may still run behind it. */
export const saidByGateway = new Set([408, 425, 499, 502, 504])

interface NoAnswerOptions {
  sent: boolean
  settlesAt: number
  retryAfterMs?: number | undefined
  cause?: unknown
  fault?: Fault
}

/**
 * A call without an answer. `sent` says whether the service may have acted. It is false only if nothing was sent or no connection was
 * made, so that the call may be repeated. From `settlesAt` on (a time of `performance.now()`) a call that was sent counts as over. One
 * that acts even later is found by later reads.
 */
export class NoAnswer extends Error {
  override name = 'NoAnswer'
  readonly sent: boolean
  readonly settlesAt: number
  /** A retry is useless before that; Infinity while the breaker is open. */
  readonly retryAfterMs: number | undefined
  readonly fault: Fault

  constructor(message: string, { sent, settlesAt, retryAfterMs, cause, fault = { cause: 'downstream-error' } }: NoAnswerOptions) {
    super(message, { cause })
    this.sent = sent
    this.settlesAt = settlesAt
    this.retryAfterMs = retryAfterMs
    this.fault = fault
  }
}

export interface Call {
  /** The call's name in metrics and messages. */
  name: string
  method: 'GET' | 'POST'
  path: string
  body?: unknown
  idempotencyKey?: string
  /** Checked when the call gets its turn. If it is false or throws, nothing is sent. */
  mayGo?: (() => Promise<boolean>) | undefined
}

export interface Downstream {
  /** @returns the answer of the service itself. @throws NoAnswer */
  call(call: Call): Promise<Answer>
  /** Waits for calls in flight. */
  close(): Promise<void>
}

export interface GuardedDownstream extends Downstream {
  health(): ServiceHealth
  /** Asks a service that fails once more, so that its health does not wait for a customer's call. Never throws. */
  probeIfFailing(): Promise<void>
  /** Whether the breaker would refuse a write. */
  refusesWrites(): boolean
}

export interface DownstreamOptions {
  name: string
  /** `http://catalog:8000`, with or without a path. */
  base: string
  headers: Record<string, string>
  concurrency: number
  timeoutMs: number
  metrics: Metrics
  /** A circuit breaker: the path of a harmless read, and a callback for each state after `closed`. */
  breaker?: { probePath: string; onChange(state: BreakerState): void }
}

/** A larger answer is not read and counts as no answer. Expected answers are far smaller. */
const MOST_BYTES = 1_048_576

const faultOfService = (name: string, cause: Fault['cause']): Fault => ({ cause, service: services.find((one) => one === name) })

/** Statuses with which a service refuses us and not what we ask: our key, our rights, our rate. */
const refusesUs = new Set([401, 403, 407, 429])
const saysTimeout = new Set([408, 504])

/** @returns undefined where the status concerns what was asked for, or is a success */
export function faultOfAnswer(name: string, status: number): Fault | undefined {
  if (refusesUs.has(status)) return faultOfService(name, 'downstream-refuses-us')
  if (saysTimeout.has(status)) return faultOfService(name, 'downstream-timeout')
  return status >= 500 || saidByGateway.has(status) ? faultOfService(name, 'downstream-error') : undefined
}

function causeOf(error: unknown, sent: boolean): Fault['cause'] {
  if (!sent) return 'downstream-unreachable'
  return (error as Error).name === 'TimeoutError' ? 'downstream-timeout' : 'downstream-error'
}

/** undici's codes for calls without a connection, of which no byte was sent (each tried with version 7.30). */
const neverSent = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'UND_ERR_CONNECT_TIMEOUT', 'EHOSTUNREACH', 'ENETUNREACH'])

function wasSent(error: unknown): boolean {
  const { code, syscall } = error as { code?: unknown; syscall?: unknown }
  return !(neverSent.has(String(code)) || syscall === 'connect')
}

/** The reason of an error, without the address that Node puts into its message. */
function reason(error: unknown): string {
  const { name, message, code } = error as { name?: string; message: string; code?: unknown }
  if (name === 'TimeoutError') return message
  return typeof code === 'string' ? code : (name ?? 'unknown error')
}

export function createDownstream(options: DownstreamOptions): GuardedDownstream {
  const { name, concurrency, timeoutMs, metrics, breaker: guard } = options
  const health = watchHealth()
  const { exchange, close } = openConnections(options, health)
  const limit = pLimit(concurrency)
  const probe = (path: string) => exchange({ name: 'probe', method: 'GET', path }, PROBE_EVERY_MS)
  const breaker =
    guard &&
    createBreaker<Answer>({
      probe: () => probe(guard.probePath),
      isFailure: ({ status }) => status >= 500 || saidByGateway.has(status),
      refusal: () =>
        new NoAnswer(`${name} was not called: its circuit breaker is open`, {
          sent: false,
          settlesAt: performance.now(),
          retryAfterMs: Number.POSITIVE_INFINITY,
          fault: health.read().fault ?? faultOfService(name, 'downstream-error'),
        }),
      onChange(state) {
        metrics.breakerOpen.set({ downstream: name }, state === 'closed' ? 0 : 1)
        guard.onChange(state)
      },
    })
  if (guard) metrics.breakerOpen.set({ downstream: name }, 0)

  async function send(call: Call): Promise<Answer> {
    if (call.mayGo && !(await call.mayGo())) {
      const fault: Fault = { cause: 'product-contended' }
      throw new NoAnswer(`${name} ${call.name} was not sent`, { sent: false, settlesAt: performance.now(), fault })
    }
    return breaker ? breaker.run(isRead(call), () => exchange(call, timeoutMs)) : exchange(call, timeoutMs)
  }

  return {
    async call(call) {
      breaker?.admit(isRead(call)) // before the call waits for its turn
      return limit(send, call)
    },
    health: health.read,
    async probeIfFailing() {
      if (guard && health.read().failingSince !== null) await probe(guard.probePath).catch(() => {})
    },
    refusesWrites: () => breaker?.refusesWrites() ?? false,
    close() {
      breaker?.close()
      return close()
    },
  }
}

function openConnections({ name, base, headers, concurrency, metrics }: DownstreamOptions, health: HealthWatch) {
  const url = new URL(base)
  const prefix = url.pathname.replace(/\/$/, '')
  const connect = buildConnector({ timeout: 1000 })
  const pool = new Pool(url.origin, {
    connections: concurrency + 1, // one for the breaker's probe while all others hang
    connect: (options, connected) =>
      connect(options, (...[error, socket]) => (error ? connected(error, null) : connected(null, skipUnexpectedContinue(socket!)))),
    // Less than the 5 s after which uvicorn closes an idle connection. A call that hits the closing connection gets no answer.
    keepAliveTimeout: 2000,
    keepAliveMaxTimeout: 3000,
    maxResponseSize: MOST_BYTES,
  })

  /** @throws NoAnswer if there is no answer, or if it is not the service's own */
  async function exchange(call: Call, withinMs: number): Promise<Answer> {
    const sentAt = performance.now()
    const observe = (answer: string) =>
      metrics.downstreamSeconds.observe({ downstream: name, call: call.name, answer }, (performance.now() - sentAt) / 1000)
    metrics.downstreamInFlight.inc({ downstream: name })
    // AbortSignal.timeout cannot be cleared: under load, ten thousand signals would each live for 5 s and then create an unused error.
    const timeout = new AbortController()
    const timer = setTimeout(() => timeout.abort(new DOMException(`no answer in ${withinMs} ms`, 'TimeoutError')), withinMs)
    let answer: Answer
    try {
      const response = await pool.request({
        method: call.method,
        path: prefix + call.path,
        headers: {
          ...headers,
          ...(call.body === undefined ? {} : { 'content-type': 'application/json' }),
          ...(call.idempotencyKey === undefined ? {} : { 'idempotency-key': call.idempotencyKey }),
        },
        body: call.body === undefined ? null : JSON.stringify(call.body),
        signal: timeout.signal,
      })
      const text = await response.body.text()
      const status = response.statusCode
      observe(`${Math.floor(status / 100)}xx`)
      answer = { status, body: json(text), settlesAt: sentAt + withinMs, retryAfterMs: retryAfterOf(status, response.headers) }
    } catch (error) {
      const sent = wasSent(error)
      observe(sent ? 'unanswered' : 'unsent')
      const why = reason(error)
      const fault = faultOfService(name, causeOf(error, sent))
      health.failed(isRead(call), fault, `${call.name}: ${why}`)
      throw new NoAnswer(`${name} ${call.name}: ${why}`, { sent, settlesAt: sentAt + withinMs, cause: error, fault })
    } finally {
      clearTimeout(timer)
      metrics.downstreamInFlight.dec({ downstream: name })
    }
    const missing = missingPart(call, answer)
    const fault = faultOfAnswer(name, missing === undefined ? answer.status : 502)
    if (fault) health.failed(isRead(call), fault, `${call.name}: status ${answer.status}`)
    else health.answered(isRead(call))
    if (missing === undefined) return answer
    // An error page of a gateway means that nothing was passed on. Any other page may stand for a call that is still running.
    const settlesAt = answer.status >= 400 ? performance.now() : answer.settlesAt
    throw new NoAnswer(`${name} ${call.name}: status ${answer.status} without ${missing}`, { sent: true, settlesAt, fault: fault! })
  }

  return { exchange, close: () => pool.close() }
}

/** undici skips interim answers, but an unexpected 100 ends the connection. It uses `read()`; no JSON begins like a 100. */
function skipUnexpectedContinue(socket: Socket): Socket {
  const read = socket.read.bind(socket)
  socket.read = (size?: number) => {
    let chunk = read(size) as Buffer | null
    while (chunk?.toString('latin1', 0, 12) === 'HTTP/1.1 100') {
      const end = chunk.indexOf('\r\n\r\n')
      if (end < 0) break
      chunk = end + 4 < chunk.length ? chunk.subarray(end + 4) : (read(size) as Buffer | null)
    }
    return chunk
  }
  return socket
}

const isRead = ({ method }: Call) => method === 'GET'

/** Statuses about the requested resource. A gateway also sends them, but without a `detail` in JSON. */
const aboutResource = new Set([404, 405, 409, 422])

/** @returns what the answer lacks that the service itself would send; undefined if nothing */
function missingPart(call: Call, { status, body }: Answer): string | undefined {
  const isObject = typeof body === 'object' && body !== null && (isRead(call) || !Array.isArray(body))
  if (status >= 200 && status < 300 && !isObject) return 'a JSON object'
  const hasDetail = (body as { detail?: unknown } | null | undefined)?.detail !== undefined
  return aboutResource.has(status) && !hasDetail ? 'a detail' : undefined
}

/** `Retry-After` in seconds or as a date, which is compared with the server's own `Date` if it is sent. */
function retryAfterOf(status: number, { 'retry-after': after, date }: Record<string, string | string[] | undefined>): number | undefined {
  if ((status !== 429 && status !== 503) || typeof after !== 'string') return undefined
  const ms = /^\d+$/.test(after) ? Number(after) * 1000 : Date.parse(after) - (Date.parse(String(date)) || Date.now())
  return Number.isNaN(ms) ? undefined : Math.max(0, ms)
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/**
 * The `detail` of an error answer of FastAPI, which is a string or a list of objects with `msg`, cut to 500 characters. Emails are
 * removed, because services quote their input, and a detail goes into jobs, logs and answers.
 */
export function detailOf({ status, body }: Answer): string {
  const detail = (body as { detail?: unknown } | null | undefined)?.detail
  if (typeof detail === 'string') return withoutEmails(detail.slice(0, 500))
  if (Array.isArray(detail)) {
    const messages = detail.map((entry) => (entry as { msg?: unknown } | null)?.msg).filter((msg) => typeof msg === 'string')
    if (messages.length > 0) return withoutEmails(messages.join('; ').slice(0, 500))
  }
  return `status ${status}`
}
