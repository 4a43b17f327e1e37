/** A way to a server on which connections can go silent, as behind a firewall that has forgotten them: they stay open, and nothing comes. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

export interface Proxy {
  /** How many connections were made so far. */
  opened(): number
  /** The server's address with this way in place of its own. */
  url: string
  /**
   * Connections on which this was said go silent; without `saying`, all of them.
   * @param later those that are opened from now on, too
   * @returns what ends it: silent connections break, and later ones are let through
   */
  silence(options?: { saying?: string; later?: boolean }): () => void
}

interface Way {
  client: Socket
  said: string
  isSilent: boolean
}

/** Enough of the last that was said to find a key in it. */
const KEPT = 100_000

export async function openProxy(t: { teardown(end: () => void): void }, target: string): Promise<Proxy> {
  const url = new URL(target)
  const sockets = new Set<Socket>()
  const ways = new Set<Way>()
  const silenced = new Set<string>()
  let opened = 0

  const server = createServer((client) => {
    const way: Way = { client, said: '', isSilent: false }
    const upstream = connect(Number(url.port), url.hostname)
    ways.add(way)
    opened += 1
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        ways.delete(way)
        client.destroy()
        upstream.destroy()
      })
    }
    client.on('data', (bytes) => {
      way.said = (way.said + bytes.toString('latin1')).slice(-KEPT)
      if ([...silenced].some((saying) => way.said.includes(saying))) way.isSilent = true
      if (!way.isSilent) upstream.write(bytes)
    })
    upstream.on('data', (bytes) => {
      if (!way.isSilent) client.write(bytes)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  const here = new URL(target)
  here.hostname = '127.0.0.1'
  here.port = String((server.address() as AddressInfo).port)

  return {
    url: here.href,
    opened: () => opened,
    silence({ saying = '', later = false } = {}) {
      for (const way of ways) way.isSilent ||= way.said.includes(saying)
      if (later) silenced.add(saying)
      return () => {
        silenced.delete(saying)
        for (const { client, isSilent } of ways) if (isSilent) client.destroy()
      }
    },
  }
}
