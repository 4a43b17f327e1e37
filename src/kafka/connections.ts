/** The TCP connections of one kafkajs client, so that they can be ended: kafkajs itself waits for every answer that is still due. */
import { connect, isIP, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import type { ISocketFactory } from 'kafkajs'

export interface Connections {
  open: ISocketFactory
  /**
   * Lets the client disconnect; what is still open after `graceMs` is cut, and what waits for an answer there is rejected. Never throws.
   * A broker that hangs would otherwise hold up the end of the process, and could still be fed what lies in our own buffers.
   */
  close(disconnect: () => Promise<void>, graceMs?: number): Promise<void>
}

/** @param signal cuts every connection when it is aborted, and refuses new ones */
export function connections(signal?: AbortSignal): Connections {
  const sockets = new Set<Socket>()
  let closed = false

  function cut(): void {
    closed = true
    for (const socket of sockets) socket.destroy(new Error('the client was closed'))
  }
  if (signal?.aborted) closed = true
  else signal?.addEventListener('abort', cut)

  return {
    open({ host, port, ssl, onConnect }) {
      // kafkajs connects anew when a connection is lost; a client that is done with must not.
      if (closed) throw new Error('the client is closed')
      const socket = ssl
        ? connectTls({ host, port, ...(isIP(host) ? {} : { servername: host }), ...ssl }, onConnect)
        : connect({ host, port }, onConnect)
      socket.setKeepAlive(true, 60_000).setNoDelay(true)
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
      return socket
    },

    async close(disconnect, graceMs = 500) {
      closed = true
      const grace = new AbortController()
      const gone = disconnect().catch(() => {})
      await Promise.race([gone, sleep(graceMs, undefined, { signal: grace.signal }).catch(() => {})])
      grace.abort()
      signal?.removeEventListener('abort', cut)
      cut()
    },
  }
}
