/** The service's processes, two of each, under a supervisor as in production: what ends is started again, whatever ended it. */
import { createWriteStream, mkdirSync, type WriteStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../support/services/ports.ts'
import { type Started, start } from '../support/services/processes.ts'
import { checkout } from '../support/services/state.ts'
import { until } from '../support/until.ts'
import { type ProcessName, processNames } from './plan.ts'

export interface FleetOptions {
  env: Record<string, string>
  /** Takes what they log, each line with the name of its process before it. */
  log: string
  names?: readonly ProcessName[]
  /** Arguments for Node itself: how a test puts other code in the place of a protection. */
  nodeArgs?: readonly string[]
}

/** How a process ended that had been asked to. */
export interface Ending {
  process: string
  code: number
  ms: number
}

export interface Fleet {
  /** Of the processes that serve customers. */
  urls: string[]
  /** Resolves when all of them have started. */
  ready(): Promise<void>
  /** SIGKILL, once it runs. */
  kill(name: ProcessName): Promise<void>
  /** SIGSTOP, once it runs, and SIGCONT after so long. */
  stop(name: ProcessName, lastsMs: number): Promise<void>
  /** SIGTERM, once it runs. Resolves when it has ended. */
  deploy(name: ProcessName): Promise<void>
  /** The id of the process that runs under this name now. */
  pid(name: ProcessName): number
  /** Nothing is stopped any more. */
  thaw(): void
  /** Ends by SIGTERM, of deploys and of the end. Those that were stopped or killed meanwhile are not in it. */
  endings: readonly Ending[]
  /** Ends that nobody asked for: `name: exit code`. */
  faults: readonly string[]
  /** Ends all of them in good order. */
  end(): Promise<void>
}

/** As a supervisor waits before it starts again what has ended. */
const START_AGAIN_MS = 200
const GRACE_MS = 25_000

export async function startFleet({ env, log, names = processNames, nodeArgs = [] }: FleetOptions): Promise<Fleet> {
  mkdirSync(dirname(log), { recursive: true })
  const logFile = createWriteStream(log)
  const endings: Ending[] = []
  const faults: string[] = []
  const members = await Promise.all(
    names.map(async (name) => watch({ name, port: await freePort(), env, nodeArgs, logFile, endings, faults })),
  )
  const find = (name: ProcessName) => members.find((member) => member.name === name)!

  return {
    urls: members.filter(({ name }) => name.startsWith('web')).map(({ url }) => url),
    async ready() {
      await until(
        () => members.filter((member) => !member.hasStarted()).map(({ name }) => name),
        (missing) => missing.length === 0,
        60_000,
      )
    },
    kill: (name) => find(name).kill(),
    stop: (name, lastsMs) => find(name).stop(lastsMs),
    deploy: (name) => find(name).deploy(),
    pid: (name) => find(name).pid(),
    thaw: () => members.forEach((member) => member.thaw()),
    endings,
    faults,
    async end() {
      await Promise.all(members.map((member) => member.end()))
      await new Promise((resolve) => logFile.end(resolve))
    },
  }
}

interface Watched {
  name: ProcessName
  port: number
  env: Record<string, string>
  nodeArgs: readonly string[]
  logFile: WriteStream
  endings: Ending[]
  faults: string[]
}

function watch({ name, port, env, nodeArgs, logFile, endings, faults }: Watched) {
  const job = {
    command: [process.execPath, ...nodeArgs, 'src/main.ts', name.slice(0, name.indexOf('-'))],
    directory: checkout,
    env: { ...env, PORT: String(port), METRICS_PORT: String(port), LOG_LEVEL: 'info' },
    graceMs: GRACE_MS,
  }
  let running: Started | undefined
  let hasStarted = false
  const ending = new AbortController()
  /** What was done to the process that runs now: an end after it is explained. */
  let struck: 'no' | 'disturbed' | 'killed' | { termAt: number } = 'no'
  const life = live()

  async function live(): Promise<void> {
    while (!ending.signal.aborted) {
      hasStarted = false
      struck = 'no'
      const now = await start(job, 'pipe')
      running = now
      if (ending.signal.aborted) void now.end()
      createInterface({ input: now.stdout! }).on('line', (line) => {
        if (line.includes('"msg":"started"')) hasStarted = true
        logFile.write(`${name} ${line}\n`)
      })
      const code = await now.exited
      running = undefined
      logFile.write(`${name} ended with ${code}\n`)
      note(code)
      if (!ending.signal.aborted) await sleep(START_AGAIN_MS)
    }
  }

  function note(code: number): void {
    if (typeof struck === 'object') endings.push({ process: name, code, ms: performance.now() - struck.termAt })
    else if (struck === 'no') faults.push(`${name}: ${code}`)
  }

  async function here(): Promise<Started> {
    return (await until(
      () => running,
      (one) => one !== undefined && one.pid > 0,
    ))!
  }

  function signal(signalName: NodeJS.Signals): void {
    try {
      if (running && running.pid > 0) process.kill(running.pid, signalName)
    } catch {
      // it ended meanwhile
    }
  }

  return {
    name,
    url: `http://127.0.0.1:${port}`,
    hasStarted: () => hasStarted,
    pid: () => running?.pid ?? 0,
    async kill() {
      await here()
      struck = 'killed'
      signal('SIGKILL')
    },
    async stop(lastsMs: number) {
      const stopped = await here()
      if (struck !== 'killed') struck = 'disturbed'
      signal('SIGSTOP')
      await sleep(lastsMs)
      if (running === stopped) signal('SIGCONT')
    },
    async deploy() {
      const deployed = await here()
      // One that is still starting, or was stopped, may end as it likes.
      if (struck === 'no') struck = hasStarted ? { termAt: performance.now() } : 'disturbed'
      signal('SIGTERM')
      await deployed.exited
    },
    thaw: () => signal('SIGCONT'),
    async end() {
      ending.abort()
      if (struck !== 'killed' && hasStarted) struck = { termAt: performance.now() }
      signal('SIGTERM')
      await life
    },
  }
}
