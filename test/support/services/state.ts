/** State directories under `.dev/`: one run at a time has one, the next one beside it takes a numbered one. */
import { createHash } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { tryLock } from './lock.ts'
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
  await mkdir(directory, { recursive: true })
  await endLeftovers(directory)
  return { directory, release: async () => void (await lock[Symbol.asyncDispose]()) }
}
