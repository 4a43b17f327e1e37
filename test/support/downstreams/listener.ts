/** A downstream's place on the network: a port of its own on 127.0.0.1 that can be closed and opened again. */
import { createServer, type RequestListener, type Server } from 'node:http'
import { freePort } from '../services/ports.ts'

/** Uvicorn's idle time-out; it sends no `Keep-Alive` hint, and {@link Exchange} sends none either. */
const keepAliveMs = 5_000

export interface Listener {
  base: string
  /** Refuses connections and cuts the open ones. */
  down(): Promise<void>
  /** Listens again, at the same port. */
  up(): Promise<void>
}

/** Opens a door at this port, or at any free one. */
export async function openListener(handle: RequestListener, port?: number): Promise<Listener> {
  const server = createServer({ keepAliveTimeout: keepAliveMs, keepAliveTimeoutBuffer: 0 }, handle)
  // Never one that the kernel gives to connections: while a downstream is down, not even its caller may be given it.
  const taken = port ?? (await freePort())
  await listen(server, taken)

  return {
    base: `http://127.0.0.1:${taken}`,
    async down() {
      if (!server.listening) return
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
    async up() {
      if (!server.listening) await listen(server, taken)
    },
  }
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ port, host: '127.0.0.1', backlog: 2048 }, () => {
      server.off('error', reject)
      resolve()
    })
  })
}
