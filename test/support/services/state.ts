/** State directories under `.dev/`: one run at a time has one, the next one beside it takes a numbered one. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, rm } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { endLeftovers } from './processes.ts'

/** The checkout these files stand in. */
export const checkout = resolve(import.meta.dirname, '../../..')

const stateRoot = join(checkout, '.dev')

/** A directory nobody else uses, and in which nothing runs, until it is released or this process ends, however it ends. */
export type Claim = { directory: string; release(): Promise<void> }

/** Takes `.dev/<name>`, or `.dev/<name>-2` and so on while another run has it. */
export async function claim(name: string): Promise<Claim> {
  for (let number = 1; number <= 100; number++) {
    const claimed = await tryClaim(join(stateRoot, number === 1 ? name : `${name}-${number}`))
    if (claimed) return claimed
  }
  throw new Error(`All of .dev/${name} to .dev/${name}-100 are in use; end some of the runs that use them`)
}

/** Takes `.dev/<name>` itself, after whoever has it now. */
export async function claimInTurn(name: string): Promise<Claim> {
  for (;;) {
    const claimed = await tryClaim(join(stateRoot, name))
    if (claimed) return claimed
    await sleep(100)
  }
}

async function tryClaim(directory: string): Promise<Claim | undefined> {
  const lock = await tryLock(createHash('sha256').update(directory).digest('hex').slice(0, 32))
  if (!lock) return undefined
  lock.unref()
  await mkdir(directory, { recursive: true })
  await endLeftovers(directory)
  return { directory, release: async () => void (await lock[Symbol.asyncDispose]()) }
}

// A listening socket rather than a lock file: the kernel lets go of it when the process dies, so that there are no stale ones.
async function tryLock(key: string): Promise<Server | undefined> {
  const abstract = process.platform === 'linux'
  const path = abstract ? `\0order-service-${key}` : join(tmpdir(), `order-service-${key}.sock`)
  const lock = createServer((visitor) => visitor.destroy())
  try {
    lock.listen(path)
    await once(lock, 'listening')
    return lock
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
