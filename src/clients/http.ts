/**
 * What we ask of downstreams goes through here: a pool of kept connections, at most so many calls at a time, one time-out, and for
 * every call without an answer whether it can have reached the downstream.
 */
import type { Socket } from 'node:net'
import pLimit from 'p-limit'
import { withoutEmails } from '../telemetry/error-fields.ts'
import { buildConnector, Pool } from 'undici'
import type { Metrics } from '../telemetry/metrics.ts'
import { type BreakerState, createBreaker, PROBE_EVERY_MS } from './breaker.ts'

/** The downstream answered. A body that is no JSON is undefined. */
export interface Answer {
  status: number
  body: unknown
  /** How long a 429 or 503 asks to be left alone. */
  retryAfterMs?: number | undefined
  /** As of a {@link NoAnswer}: where a gateway answered, the call behind it may be under way until then. */
  settlesAt: number
}

/** What a gateway says that waited in vain, or got no clear answer itself: the call may still be under way behind it. */
export const saidByGateway = new Set([408, 425, 499, 502, 504])

/**
 * No answer. `sent` says whether the downstream may have acted: false only where nothing was sent, or the connection was never made, so
 * that the same call may be made again. From `settlesAt` on (a time of `performance.now()`) a call that was sent counts as over: one that acts later
 * still is found by those who look again.
 */
export class NoAnswer extends Error {
  override name = 'NoAnswer'
  readonly sent: boolean
  readonly settlesAt: number
  /** A repeat before that would be in vain; Infinity where the breaker is open. */
  readonly retryAfterMs: number | undefined

  constructor(
    message: string,
    { sent, settlesAt, retryAfterMs, cause }: { sent: boolean; settlesAt: number; retryAfterMs?: number | undefined; cause?: unknown },
  ) {
    super(message, { cause })
    this.sent = sent
    this.settlesAt = settlesAt
    this.retryAfterMs = retryAfterMs
  }
}

export interface Call {
  /** What the call is called in metrics and messages. */
  name: string
  method: 'GET' | 'POST'
  path: string
  body?: unknown
  idempotencyKey?: string
  /** Asked in the moment in which the call has its place: where it is false or throws, nothing is sent. */
  mayGo?: (() => Promise<boolean>) | undefined
}

export interface Downstream {
  /** @returns what the service itself said. @throws NoAnswer */
  call(call: Call): Promise<Answer>
  /** Lets calls under way finish. */
  close(): Promise<void>
}

export interface GuardedDownstream extends Downstream {
  /** Whether its breaker would refuse a call that changes something. */
  isRefusing(): boolean
}

export interface DownstreamOptions {
  name: string
  /** `http://catalog:8000`, with or without a path. */
  base: string
  headers: Record<string, string>
  concurrency: number
  timeoutMs: number
  metrics: Metrics
  /** For a service whose failures are to be waited out: the path of a harmless read, and who is told of each state after `closed`. */
  breaker?: { probePath: string; onChange(state: BreakerState): void }
}

/** Beyond so many bytes the rest of an answer is not read, and it is none: nothing that we ask for comes near it. */
const MOST_BYTES = 1_048_576

/** undici's codes for calls of which no byte left: no connection was made (tried one by one, version 7.30). */
const neverSent = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'UND_ERR_CONNECT_TIMEOUT', 'EHOSTUNREACH', 'ENETUNREACH'])

function wasSent(error: unknown): boolean {
  const { code, syscall } = error as { code?: unknown; syscall?: unknown }
  return !(neverSent.has(String(code)) || syscall === 'connect')
}

/** What went wrong, without the address that Node puts into its messages. */
function reason(error: unknown): string {
  const { name, message, code } = error as { name?: string; message: string; code?: unknown }
  if (name === 'TimeoutError') return message
  return typeof code === 'string' ? code : (name ?? 'unknown error')
}

export function createDownstream(options: DownstreamOptions): GuardedDownstream {
  const { name, concurrency, timeoutMs, metrics, breaker: guard } = options
  const { exchange, close } = openConnections(options)
  const place = pLimit(concurrency)
  const breaker =
    guard &&
    createBreaker<Answer>({
      probe: () => exchange({ name: 'probe', method: 'GET', path: guard.probePath }, PROBE_EVERY_MS),
      isFailure: ({ status }) => status >= 500 || saidByGateway.has(status),
      refusal: () =>
        new NoAnswer(`${name} is not asked: its breaker is open`, {
          sent: false,
          settlesAt: performance.now(),
          retryAfterMs: Number.POSITIVE_INFINITY,
        }),
      onChange(state) {
        metrics.breakerOpen.set({ downstream: name }, state === 'closed' ? 0 : 1)
        guard.onChange(state)
      },
    })
  if (guard) metrics.breakerOpen.set({ downstream: name }, 0)

  async function send(call: Call): Promise<Answer> {
    if (call.mayGo && !(await call.mayGo())) {
      throw new NoAnswer(`${name} ${call.name} was not sent`, { sent: false, settlesAt: performance.now() })
    }
    return breaker ? breaker.run(isRead(call), () => exchange(call, timeoutMs)) : exchange(call, timeoutMs)
  }

  return {
    async call(call) {
      breaker?.admit(isRead(call)) // not after a wait for a place
      return place(send, call)
    },
    isRefusing: () => breaker?.isRefusing() ?? false,
    close() {
      breaker?.close()
      return close()
    },
  }
}

function openConnections({ name, base, headers, concurrency, metrics }: DownstreamOptions) {
  const url = new URL(base)
  const prefix = url.pathname.replace(/\/$/, '')
  const connect = buildConnector({ timeout: 1000 })
  const pool = new Pool(url.origin, {
    connections: concurrency + 1, // one for the breaker's probe, while all others hang
    connect: (options, connected) =>
      connect(options, (...[error, socket]) => (error ? connected(error, null) : connected(null, passOverContinue(socket!)))),
    // Below the 5 s after which uvicorn closes an idle connection: a call that meets the closing is one without an answer.
    keepAliveTimeout: 2000,
    keepAliveMaxTimeout: 3000,
    maxResponseSize: MOST_BYTES,
  })

  /** @throws NoAnswer where there is none, or where it is not the service that gave it */
  async function exchange(call: Call, withinMs: number): Promise<Answer> {
    const sentAt = performance.now()
    const observe = (answer: string) =>
      metrics.downstreamSeconds.observe({ downstream: name, call: call.name, answer }, (performance.now() - sentAt) / 1000)
    metrics.downstreamInFlight.inc({ downstream: name })
    // Not AbortSignal.timeout, which cannot be cleared: each would live for its 5 s, in crowds ten thousand at a time, and then make an error for nobody.
    const late = new AbortController()
    const timer = setTimeout(() => late.abort(new DOMException(`no answer in ${withinMs} ms`, 'TimeoutError')), withinMs)
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
        signal: late.signal,
      })
      const text = await response.body.text()
      const status = response.statusCode
      observe(`${Math.floor(status / 100)}xx`)
      answer = { status, body: json(text), settlesAt: sentAt + withinMs, retryAfterMs: retryAfterOf(status, response.headers) }
    } catch (error) {
      const sent = wasSent(error)
      observe(sent ? 'unanswered' : 'unsent')
      throw new NoAnswer(`${name} ${call.name}: ${reason(error)}`, { sent, settlesAt: sentAt + withinMs, cause: error })
    } finally {
      clearTimeout(timer)
      metrics.downstreamInFlight.dec({ downstream: name })
    }
    const missing = whatIsMissing(call, answer)
    if (missing === undefined) return answer
    // A gateway that knows no such service has passed nothing on; its page in place of an answer may stand for a call that is under way.
    const settlesAt = answer.status >= 400 ? performance.now() : answer.settlesAt
    throw new NoAnswer(`${name} ${call.name}: status ${answer.status} without ${missing}`, { sent: true, settlesAt })
  }

  return { exchange, close: () => pool.close() }
}

/** undici passes over interim answers but an unasked 100, which ends the connection. It reads by `read()`; no JSON begins like this. */
function passOverContinue(socket: Socket): Socket {
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

/** Those of a service that say something of what was asked for. A gateway says them too, but not with a `detail` in JSON. */
const aboutWhatWasAsked = new Set([404, 405, 409, 422])

/** @returns what an answer of the service itself would have; undefined where nothing is missing */
function whatIsMissing(call: Call, { status, body }: Answer): string | undefined {
  const isObject = typeof body === 'object' && body !== null && (isRead(call) || !Array.isArray(body))
  if (status >= 200 && status < 300 && !isObject) return 'a JSON object'
  const hasDetail = (body as { detail?: unknown } | null | undefined)?.detail !== undefined
  return aboutWhatWasAsked.has(status) && !hasDetail ? 'a detail' : undefined
}

/** `Retry-After` in seconds, or as a date: that is held against the server's own clock, where it tells it. */
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
 * The `detail` of an error answer, as FastAPI writes it: a string, or a list of objects with `msg`; at most 500 characters. Emails are
 * hidden: downstreams quote what they were sent, and a detail goes into jobs, logs and answers.
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
