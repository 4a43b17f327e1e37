/** The service's processes, two of each, under a supervisor as in production: what ends is started again, whatever ended it. */
import { createWriteStream, mkdirSync, type WriteStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../support/services/ports.ts'
import { type Started, start } from '../support/services/processes.ts'
import { checkout } from '../support/services/state.ts'
import { until } from '../support/until.ts'
import type { Role } from '../../src/service/connect.ts'
import { processNames } from './plan.ts'

/** Processes by their names, each with what it does; two of each kind where nothing else is said. */
export type Members = Record<string, readonly Role[]>

const twoOfEach: Members = Object.fromEntries(processNames.map((name) => [name, [name.slice(0, name.indexOf('-')) as Role]]))

export interface FleetOptions {
  env: Record<string, string>
  /** Takes what they log, each line with the name of its process before it. */
  log: string
  members?: Members
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
  kill(name: string): Promise<void>
  /** SIGSTOP, once it runs, and SIGCONT after so long. */
  stop(name: string, lastsMs: number): Promise<void>
  /** SIGTERM, once it runs. Resolves when it has ended. */
  deploy(name: string): Promise<void>
  /** SIGKILL, once it runs; from then on the process of this name has a clock that is off by so much. */
  shiftClock(name: string, ms: number): Promise<void>
  /** The id of the process that runs under this name now. */
  pid(name: string): number
  /** Whether a process of this name has ever logged this message. */
  said(name: string, message: string): boolean
  /** Puts a line between those that the processes log. */
  note(line: string): void
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
const wrongClock = pathToFileURL(`${import.meta.dirname}/wrong-clock.ts`).href

export async function startFleet({ env, log, members: wanted = twoOfEach, nodeArgs = [] }: FleetOptions): Promise<Fleet> {
  mkdirSync(dirname(log), { recursive: true })
  const logFile = createWriteStream(log)
  const endings: Ending[] = []
  const faults: string[] = []
  const members = await Promise.all(
    Object.entries(wanted).map(async ([name, roles]) =>
      watch({ name, roles, port: await freePort(), env, nodeArgs, logFile, endings, faults }),
    ),
  )
  const find = (name: string) => members.find((member) => member.name === name)!

  return {
    urls: members.filter(({ name }) => wanted[name]!.includes('web')).map(({ url }) => url),
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
    shiftClock: (name, ms) => find(name).shiftClock(ms),
    pid: (name) => find(name).pid(),
    said: (name, message) => find(name).said.has(message),
    note: (line) => void logFile.write(`${line}\n`),
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
  name: string
  roles: readonly Role[]
  port: number
  env: Record<string, string>
  nodeArgs: readonly string[]
  logFile: WriteStream
  endings: Ending[]
  faults: string[]
}

function watch({ name, roles, port, env, nodeArgs, logFile, endings, faults }: Watched) {
  let clockArgs: string[] = []
  const job = () => ({
    command: [process.execPath, ...clockArgs, ...nodeArgs, 'src/main.ts', ...roles],
    directory: checkout,
    env: { ...env, PORT: String(port), METRICS_PORT: String(port), LOG_LEVEL: 'info' },
    graceMs: GRACE_MS,
  })
  let running: Started | undefined
  let hasStarted = false
  const said = new Set<string>()
  const ending = new AbortController()
  /** What was done to the process that runs now: an end after it is explained. */
  let struck: 'no' | 'disturbed' | 'killed' | { termAt: number } = 'no'
  const life = live()

  async function live(): Promise<void> {
    while (!ending.signal.aborted) {
      hasStarted = false
      struck = 'no'
      const now = await start(job(), 'pipe')
      running = now
      if (ending.signal.aborted) void now.end()
      createInterface({ input: now.stdout! }).on('line', (line) => {
        const [, message] = /"msg":"([^"]*)"/.exec(line) ?? []
        if (message === 'started') hasStarted = true
        if (message !== undefined) said.add(message)
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

  async function kill(): Promise<void> {
    await here()
    struck = 'killed'
    signal('SIGKILL')
  }

  return {
    name,
    url: `http://127.0.0.1:${port}`,
    hasStarted: () => hasStarted,
    said,
    pid: () => running?.pid ?? 0,
    kill,
    shiftClock(ms: number) {
      clockArgs = ['--import', `${wrongClock}?${ms}`]
      return kill()
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
