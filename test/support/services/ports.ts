/** Free ports on the loopback interface. */
import { once } from 'node:events'
import { createServer } from 'node:net'
import { tryLock } from './lock.ts'

// Below the range the kernel takes outgoing ports from: a client that retries against a stopped server inside that range can
// end up connected to itself, and then the server cannot come back on its port.
const lowest = 20_000
// Each process hands out ports of a block of its own, and holds it until it ends: a port is seen to be free some seconds before its
// server listens there, and another process would see the same.
const block = 400
const blocks = 30
let ours: Promise<number> | undefined
let last = Math.floor(Math.random() * block)

/** A port on 127.0.0.1 that nobody listens on now, and that this process hands out again only after all others of its block. */
export async function freePort(): Promise<number> {
  ours ??= takeBlock()
  const first = await ours
  for (let tried = 0; tried < block; tried++) {
    last = (last + 1) % block
    const port = first + last
    if (await isFree(port)) return port
  }
  throw new Error(`All ports from ${first} to ${first + block - 1} are in use`)
}

/** @returns the first port of a block that no other process has */
async function takeBlock(): Promise<number> {
  for (let n = 0; n < blocks; n++) {
    const number = (process.pid + n) % blocks
    const lock = await tryLock(`ports-${number}`)
    if (lock) return lowest + number * block
  }
  throw new Error(`All ${blocks} blocks of ports from ${lowest} are in use; end some of the runs that use them`)
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
