/** Free ports on the loopback interface. */
import { once } from 'node:events'
import { createServer } from 'node:net'

// Below the range the kernel takes outgoing ports from: a client that retries against a stopped server inside that range can
// end up connected to itself, and then the server cannot come back on its port.
const lowest = 20_000
// Each process hands out ports of a block of its own, so that two which ask at one moment do not get the same.
const block = 400
const first = lowest + (process.pid % 30) * block
const handedOut = new Set<number>()

/** A port on 127.0.0.1 that nobody listens on now and that this process has not handed out lately. */
export async function freePort(): Promise<number> {
  for (;;) {
    if (handedOut.size === block) handedOut.clear()
    const port = first + Math.floor(Math.random() * block)
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
