/** A server of our own: started, killed, started again on the same port with the same data, and ended. */
import { existsSync, rmSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Job, lastLines, signalTree, type Started, start } from './processes.ts'
import type { Say } from './report.ts'

/** What differs from server to server. */
export type Recipe = {
  /** As the lines on the terminal call it. */
  title: string
  job: Job & { log: string; pidFile: string }
  /** Rejects while the server does not answer yet. */
  probe(): Promise<unknown>
}

export type Server = {
  readonly pid: number
  /** SIGKILL, as a crash would end it; resolves when the process is gone. */
  kill(): Promise<void>
  /** SIGSTOP, to it and the processes that it has made: it keeps its connections and answers nothing, until `thaw`. */
  freeze(): void
  thaw(): void
  /** Up again on the same port with the same data, whether it was killed, ended or still runs. */
  restart(): Promise<void>
  /** Ends it in its own orderly way. */
  stop(): Promise<void>
}

const startTimeoutMs = 60_000
const restartTimeoutMs = 20_000

/** Starts a server and waits until it answers. */
export async function startServer(recipe: Recipe): Promise<Server> {
  rmSync(recipe.job.log, { force: true })
  let running = await up(recipe)

  return {
    get pid() {
      return running.pid
    },
    async kill() {
      if (await isOver(running)) return
      process.kill(running.pid, 'SIGKILL')
      await running.exited
    },
    freeze: () => signalTree(running.pid, 'SIGSTOP'),
    thaw: () => signalTree(running.pid, 'SIGCONT'),
    async restart() {
      await running.end()
      const giveUpAt = performance.now() + restartTimeoutMs
      for (;;) {
        try {
          running = await up(recipe)
          return
        } catch (error) {
          // After a SIGKILL, PostgreSQL's backends keep the data directory until they notice.
          if (performance.now() > giveUpAt) throw error
          await sleep(100)
        }
      }
    },
    async stop() {
      signalTree(running.pid, 'SIGCONT') // one that is stopped could not end
      await running.end()
    },
  }
}

/** Starts a server; where it does not come up with the data it has, once more with none. The old data is put aside. */
export async function startOnData(title: string, data: string, say: Say, begin: () => Promise<Server>): Promise<Server> {
  try {
    return await begin()
  } catch (error) {
    if (!existsSync(data)) throw error
    say(`${title}: ${(error as Error).message}`)
    say(`${title}: beginning without data; what there was is now in ${data}.broken`)
    await rm(`${data}.broken`, { recursive: true, force: true })
    await rename(data, `${data}.broken`)
    return begin()
  }
}

async function up({ title, job, probe }: Recipe): Promise<Started> {
  const started = await start(job)
  const giveUpAt = performance.now() + startTimeoutMs
  let fault: unknown
  while (performance.now() < giveUpAt) {
    try {
      await probe()
      return started
    } catch (error) {
      fault = error
    }
    if (await isOver(started)) throw new Error(`${title} ended while starting; its log ${job.log} says:\n${lastLines(job.log)}`)
    await sleep(50)
  }
  await started.end()
  throw new Error(`${title} did not answer within ${startTimeoutMs / 1000} s (${fault}); its log ${job.log} says:\n${lastLines(job.log)}`)
}

async function isOver(started: Started): Promise<boolean> {
  return Promise.race([started.exited.then(() => true), sleep(0, false)])
}
