/** The TCP connections of one kafkajs client, so that they can be cut: kafkajs itself waits for every pending answer. */
import { connect, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { ISocketFactory } from 'kafkajs'
import { within } from '../within.ts'

export interface Connections {
  open: ISocketFactory
  /**
   * Lets the client disconnect, then cuts what is still open after `graceMs` and rejects its pending requests. Never throws.
   * Otherwise a broker that hangs would delay the end of the process, and could still receive what is in our own buffers.
   */
  close(disconnect: () => Promise<void>, graceMs?: number): Promise<void>
}

/** @param signal when it is aborted, all connections are cut and new ones refused */
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
      // kafkajs reconnects when a connection is lost; a closed client must not.
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
      await within(graceMs, disconnect()).catch(() => {})
      signal?.removeEventListener('abort', cut)
      cut()
    },
  }
}
