/** One call of a caller at a downstream: its body, its one answer, or the ways of giving none. */
import type { IncomingMessage, ServerResponse } from 'node:http'

/** What is sent back; `body` is text as it goes over the wire. */
export interface Answer {
  status: number
  body: string
  type?: string
  retryAfter?: string | undefined
}

/** An answer with JSON. */
export function json(status: number, value: unknown): Answer {
  return { status, body: JSON.stringify(value) }
}

/** An error as FastAPI words it. */
export function refusal(status: number, detail: string): Answer {
  return json(status, { detail })
}

/** A refused field as FastAPI words it: `detail` is a list, not a string. */
export function unprocessable(loc: readonly (string | number)[], msg: string): Answer {
  return json(422, { detail: [{ type: 'value_error', loc: ['body', ...loc], msg }] })
}

/** What an uncaught exception behind uvicorn looks like. */
export function failure(status: number, body = 'Internal Server Error'): Answer {
  return { status, body, type: 'text/plain; charset=utf-8' }
}

/** The caller's side of a call: it is over with the answer, or when the caller goes, whatever happens here afterwards. */
export class Exchange {
  readonly #res: ServerResponse
  readonly #onEnd: (answer: number | 'none') => void
  #over = false

  constructor(res: ServerResponse, onEnd: (answer: number | 'none') => void) {
    this.#res = res
    this.#onEnd = onEnd
    res.once('close', () => this.#end('none'))
  }

  /** Answers, unless the caller has gone. The call is over before the first byte leaves: the next one may follow at once. */
  answer({ status, body, type = 'application/json', retryAfter }: Answer): void {
    if (this.#over) return
    this.#end(status)
    // Without it Node adds `Keep-Alive: timeout=5`, which uvicorn does not send and which overrules the caller's own time-out.
    this.#res.removeHeader('connection')
    if (retryAfter !== undefined) this.#res.setHeader('retry-after', retryAfter)
    this.#res.writeHead(status, ['content-type', type, 'content-length', `${Buffer.byteLength(body)}`])
    this.#res.end(body)
  }

  /** Closes the connection, as a server that was stopped does. */
  drop(): void {
    this.#end('none')
    this.#res.socket?.destroy()
  }

  /** Resets the connection, as a server that crashed does. */
  reset(): void {
    this.#end('none')
    this.#res.socket?.resetAndDestroy()
  }

  #end(answer: number | 'none'): void {
    if (this.#over) return
    this.#over = true
    this.#onEnd(answer)
  }
}

/** The JSON of a body; `undefined` where it is none. Never called where the caller goes before the end. */
export function readJson(req: IncomingMessage, then: (body: unknown) => void): void {
  let text = ''
  req.setEncoding('utf8')
  req.on('data', (chunk: string) => {
    text += chunk
  })
  req.on('end', () => then(parsed(text)))
}

/** JSON, or `undefined`. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
