/** Free ports on the loopback interface. */
import { once } from 'node:events'
import { createServer } from 'node:net'

// Below the range the kernel takes outgoing ports from: a client that retries against a stopped server inside that range can
// end up connected to itself, and then the server cannot come back on its port.
const lowest = 20_000
const highest = 32_000
const handedOut = new Set<number>()

/** A port on 127.0.0.1 that nobody listens on now and that this process has not handed out before. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = lowest + Math.floor(Math.random() * (highest - lowest))
    if (handedOut.has(port) || !(await isFree(port))) continue
    handedOut.add(port)
    return port
  }
}

async function isFree(port: number): Promise<boolean> {
  const probe = createServer()
  try {
    probe.listen(port, '127.0.0.1')
    await once(probe, 'listening')
    return true
  } catch {
    return false
  } finally {
    probe.close()
  }
}
