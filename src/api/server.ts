/** The HTTP server: its time-outs, its answers to malformed HTTP, and its shutdown. */
import { createServer, type Server, type ServerResponse, STATUS_CODES } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type Koa from 'koa'

/** Longer than the gateway keeps idle connections (Traefik: 90 s). If we closed first, a request could hit the closing socket. */
const KEEP_ALIVE_MS = 95_000

/**
 * Connections that the kernel queues while we are busy. Node's default is 511. In the first second of a rush the kernel would drop more,
 * and each customer's kernel would retry after 1 s, then 3 s. The kernel's own limit is `net.core.somaxconn`.
 */
const BACKLOG = 4096

const limits = {
  keepAliveTimeout: KEEP_ALIVE_MS,
  headersTimeout: 5000,
  requestTimeout: 10_000, // for receiving the whole request, not for the answer
  connectionsCheckingInterval: 1000,
  maxHeaderSize: 16_384,
  requireHostHeader: false, // Node would answer with an empty 400; the app refuses it with a detail
}

const statusOfFault: Record<string, number> = { HPE_HEADER_OVERFLOW: 431, ERR_HTTP_REQUEST_TIMEOUT: 408 }

/** Answers on the raw connection in the common form of errors, and closes it. */
function refuse(socket: Duplex, status: number): void {
  const body = JSON.stringify({ detail: STATUS_CODES[status] })
  const head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nConnection: close`
  socket.end(`${head}\r\n\r\n${body}`)
}

/** Answers what Node's parser refuses, which never reaches the app as a complete request. */
function refuseUnparsed(error: Error & { code?: string }, socket: Socket): void {
  const answering = (socket as { _httpMessage?: ServerResponse | null })._httpMessage
  // An answer here would be taken for the answer to the earlier, complete request.
  const hasOtherAnswer = answering && (answering.headersSent || answering.req.complete)
  if (!socket.writable || hasOtherAnswer || error.code === 'ECONNRESET') return void socket.destroy()
  refuse(socket, statusOfFault[error.code ?? ''] ?? 400)
}

/** Resolves once the server listens. @throws the error of `listen`, for a port in use or a foreign address */
export async function listen(app: Koa, { host, port }: { host: string; port: number }): Promise<Server> {
  const handle = app.callback()
  const server = createServer(limits, handle)
  server.on('clientError', refuseUnparsed)
  // Node would answer with an empty 417, and would close a CONNECT without an answer.
  server.on('checkExpectation', handle)
  server.on('connect', (_, socket) => refuse(socket, 405))
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ port, host, backlog: BACKLOG }, () => {
      server.off('error', reject)
      resolve()
    })
  })
  return server
}

/** The port that a server listens on, which matters after a request for port 0. */
export const portOf = (server: Server): number => (server.address() as AddressInfo).port

/**
 * Accepts no more connections, closes idle ones and waits for requests in flight. Resolves when all connections are closed. After
 * `withinMs` the remaining ones are cut off
 */
export async function close(server: Server, { withinMs }: { withinMs: number }): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  const idle = setInterval(() => server.closeIdleConnections(), 50)
  const late = setTimeout(() => server.closeAllConnections(), withinMs)
  await closed
  clearInterval(idle)
  clearTimeout(late)
}
