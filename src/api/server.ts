/** The HTTP server itself: its time-outs, its answers to what is no HTTP, and how it ends. */
import { createServer, type Server, type ServerResponse, STATUS_CODES } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type Koa from 'koa'

/** The gateway keeps idle connections for 90 s (Traefik's default): if we closed first, a request could meet the closing socket. */
const KEEP_ALIVE_MS = 95_000

/**
 * Connections that the kernel takes for us while we are busy. Beyond Node's 511 it drops them, as in the first second of a rush, and each
 * customer's kernel tries again after 1 s, then 3 s. The kernel's own limit is `net.core.somaxconn`.
 */
const BACKLOG = 4096

const limits = {
  keepAliveTimeout: KEEP_ALIVE_MS,
  headersTimeout: 5000,
  requestTimeout: 10_000, // until the whole request is there; how long its answer takes is another matter
  connectionsCheckingInterval: 1000,
  maxHeaderSize: 16_384,
  requireHostHeader: false, // its answer is an empty 400: the app refuses it
}

const statusOfFault: Record<string, number> = { HPE_HEADER_OVERFLOW: 431, ERR_HTTP_REQUEST_TIMEOUT: 408 }

/** Answers on the bare connection, in the form that all errors have, and ends it. */
function refuse(socket: Duplex, status: number): void {
  const body = JSON.stringify({ detail: STATUS_CODES[status] })
  const head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nConnection: close`
  socket.end(`${head}\r\n\r\n${body}`)
}

/** What Node's parser refuses never becomes a request, or one whose body never ends. */
function refuseUnparsed(error: Error & { code?: string }, socket: Socket): void {
  const answering = (socket as { _httpMessage?: ServerResponse | null })._httpMessage
  // Behind a whole request it would pass for the answer to that one.
  const isAnothers = answering && (answering.headersSent || answering.req.complete)
  if (!socket.writable || isAnothers || error.code === 'ECONNRESET') return void socket.destroy()
  refuse(socket, statusOfFault[error.code ?? ''] ?? 400)
}

/** @returns once it listens. @throws what `listen` reports: a port in use, an address that is not ours */
export async function listen(app: Koa, { host, port }: { host: string; port: number }): Promise<Server> {
  const handle = app.callback()
  const server = createServer(limits, handle)
  server.on('clientError', refuseUnparsed)
  // Node would answer with an empty 417, and close a CONNECT without a word.
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

/** The port that a server got which was asked to listen on 0. */
export const portOf = (server: Server): number => (server.address() as AddressInfo).port

/**
 * Takes no more connections, lets the requests under way finish and closes what is idle. @returns when all are closed, at the latest
 * after `withinMs`, when those still open are cut off
 */
export async function close(server: Server, { withinMs }: { withinMs: number }): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  const idle = setInterval(() => server.closeIdleConnections(), 50)
  const late = setTimeout(() => server.closeAllConnections(), withinMs)
  await closed
  clearInterval(idle)
  clearTimeout(late)
}
