/** A neighbour's place on the network: a port of its own on 127.0.0.1 that can be closed and opened again. */
import { createServer, type RequestListener, type Server } from 'node:http'
import { randomInt } from 'node:crypto'

/** Below the kernel's ephemeral range (32768 and up): while a neighbour is down, no outgoing connection may be given its port, not even the caller's own. */
const PORTS = [20_000, 32_000] as const

const attempts = 50

/** Uvicorn's idle time-out; it sends no `Keep-Alive` hint, and {@link Exchange} sends none either. */
const keepAliveMs = 5_000

export interface Door {
  base: string
  /** Refuses connections and cuts the open ones. */
  down(): Promise<void>
  /** Listens again, at the same port. */
  up(): Promise<void>
}

/** Opens a door at this port, or at any free one. */
export async function openDoor(handle: RequestListener, port?: number): Promise<Door> {
  const server = createServer({ keepAliveTimeout: keepAliveMs, keepAliveTimeoutBuffer: 0 }, handle)
  const taken = port ?? (await listenAnywhere(server))
  if (port !== undefined) await listen(server, port)

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

async function listenAnywhere(server: Server): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    const port = randomInt(...PORTS)
    try {
      await listen(server, port)
      return port
    } catch (error) {
      if (attempt === attempts || (error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    }
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
