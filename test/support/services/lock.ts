/** Locks between processes of this machine. */
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * Takes a lock that this process holds until it closes it or ends, however it ends; `undefined` where another has it. A listening
 * socket rather than a lock file: the kernel releases it when the process dies, so that there are no stale ones.
 */
export async function tryLock(key: string): Promise<Server | undefined> {
  const abstract = process.platform === 'linux'
  const path = abstract ? `\0order-service-${key}` : join(tmpdir(), `order-service-${key}.sock`)
  const lock = createServer((visitor) => visitor.destroy())
  try {
    lock.listen(path)
    await once(lock, 'listening')
    return lock.unref()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    if (abstract || (await answers(path))) return undefined
    await rm(path, { force: true }) // its process is gone; only systems without abstract sockets leave the file behind
    return tryLock(key)
  }
}

async function answers(path: string): Promise<boolean> {
  const visitor = connect(path)
  try {
    await once(visitor, 'connect')
    return true
  } catch {
    return false
  } finally {
    visitor.destroy()
  }
}
