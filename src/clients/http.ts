/**
 * What we ask of neighbours goes through here: a pool of kept connections, at most so many calls at a time, one time-out, and for
 * every call without an answer whether it can have reached the neighbour.
 */
import pLimit from 'p-limit'
import { Pool } from 'undici'
import { withoutEmails } from '../telemetry/error-fields.ts'
import type { Metrics } from '../telemetry/metrics.ts'

/** The neighbour answered. A body that is no JSON is undefined. */
export interface Answer {
  status: number
  body: unknown
  /** As of a {@link NoAnswer}: where a gateway answered, the call behind it may be under way until then. */
  settlesAt: number
}

/** What a gateway says that waited in vain, or got no clear answer itself: the call may still be under way behind it. */
export const saidByGateway = new Set([408, 425, 499, 502, 504])

/**
 * No answer. `sent` says whether the neighbour may have acted: false only where nothing was sent, or the connection was never made, so
 * that the same call may be made again. From `settlesAt` on (a time of `performance.now()`) a call that was sent counts as over: one that acts later
 * still is found by those who look again.
 */
export class NoAnswer extends Error {
  override name = 'NoAnswer'
  readonly sent: boolean
  readonly settlesAt: number

  constructor(message: string, { sent, settlesAt, cause }: { sent: boolean; settlesAt: number; cause?: unknown }) {
    super(message, { cause })
    this.sent = sent
    this.settlesAt = settlesAt
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

export interface Neighbour {
  /** @throws NoAnswer */
  call(call: Call): Promise<Answer>
  /** Lets calls under way finish. */
  close(): Promise<void>
}

export interface NeighbourOptions {
  name: string
  /** `http://catalog:8000`, with or without a path. */
  base: string
  headers: Record<string, string>
  concurrency: number
  timeoutMs: number
  metrics: Metrics
}

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

export function createNeighbour({ name, base, headers, concurrency, timeoutMs, metrics }: NeighbourOptions): Neighbour {
  const url = new URL(base)
  const prefix = url.pathname.replace(/\/$/, '')
  const pool = new Pool(url.origin, {
    connections: concurrency,
    connect: { timeout: 1000 },
    // Below the 5 s after which uvicorn closes an idle connection: a call that meets the closing is one without an answer.
    keepAliveTimeout: 2000,
    keepAliveMaxTimeout: 3000,
  })
  const place = pLimit(concurrency)

  async function send(call: Call): Promise<Answer> {
    if (call.mayGo && !(await call.mayGo())) {
      throw new NoAnswer(`${name} ${call.name} was not sent`, { sent: false, settlesAt: performance.now() })
    }
    const sentAt = performance.now()
    const observe = (answer: string) =>
      metrics.neighbourSeconds.observe({ neighbour: name, call: call.name, answer }, (performance.now() - sentAt) / 1000)
    metrics.neighbourInFlight.inc({ neighbour: name })
    // Not AbortSignal.timeout, which cannot be cleared: each would live for its 5 s, in crowds ten thousand at a time, and then make an error for nobody.
    const late = new AbortController()
    const timer = setTimeout(() => late.abort(new DOMException(`no answer in ${timeoutMs} ms`, 'TimeoutError')), timeoutMs)
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
      observe(`${Math.floor(response.statusCode / 100)}xx`)
      return { status: response.statusCode, body: json(text), settlesAt: sentAt + timeoutMs }
    } catch (error) {
      const sent = wasSent(error)
      observe(sent ? 'unanswered' : 'unsent')
      throw new NoAnswer(`${name} ${call.name}: ${reason(error)}`, { sent, settlesAt: sentAt + timeoutMs, cause: error })
    } finally {
      clearTimeout(timer)
      metrics.neighbourInFlight.dec({ neighbour: name })
    }
  }

  return {
    call: (call) => place(send, call),
    close: () => pool.close(),
  }
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
 * hidden: neighbours quote what they were sent, and a detail goes into jobs, logs and answers.
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
