/** Programs we start, and programs that a crashed run of ours left behind. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'

/** What to start, as whom, and how to end it. */
export type Job = {
  command: string[]
  directory?: string
  env?: Record<string, string>
  user?: { uid: number; gid: number }
  /** A file that takes what the program prints; without it the output goes to ours. */
  log?: string
  pidFile?: string
  stopSignal?: NodeJS.Signals
  /** How long it may take to end before it is killed. */
  graceMs?: number
}

/** A program that ends when we do. */
export type Started = {
  pid: number
  stdout: Readable | null
  /** Its exit code, 128 + n where signal n ended it. */
  exited: Promise<number>
  end(): Promise<number>
}

/** Starts a program under a supervisor, which ends it when this process is gone, however it went. */
export async function start(job: Job, output: 'inherit' | 'pipe' = 'inherit'): Promise<Started> {
  const supervisor = spawn(process.execPath, [join(import.meta.dirname, 'supervisor.ts'), JSON.stringify(job)], {
    detached: true,
    stdio: ['pipe', output, 'inherit', 'pipe'],
  })
  const exited = once(supervisor, 'exit').then(([code, by]) => (code as number | null) ?? (by ? 137 : 1))
  supervisor.stdin?.on('error', () => {}) // it was gone before us
  const line = await Promise.race([once(createInterface(supervisor.stdio[3] as Readable), 'line'), exited])
  return {
    pid: Array.isArray(line) ? Number(line[0]) : 0,
    stdout: supervisor.stdout,
    exited,
    async end() {
      supervisor.stdin?.end()
      return exited
    },
  }
}

/** Runs a program to its end. @throws with the last lines of its log where it fails */
export async function run(job: Job & { log: string }): Promise<void> {
  const code = await (await start({ ...job, pidFile: `${job.log}.pid` })).exited
  if (code !== 0) throw new Error(`${job.command.join(' ')} failed with exit code ${code}:\n${lastLines(job.log)}`)
}

/** The end of a log, for an error message. */
export function lastLines(log: string): string {
  try {
    return readFileSync(log, 'utf8').trimEnd().split('\n').slice(-15).join('\n')
  } catch {
    return '(no output)'
  }
}

type Note = { pid: number; commandLine: string; stopSignal: NodeJS.Signals; graceMs: number }

/** Notes a process with its command line: process ids are used again, and only the two together say that it is the same one. */
export function remember(pidFile: string, note: Omit<Note, 'commandLine'>) {
  writeFileSync(pidFile, JSON.stringify({ ...note, commandLine: commandLine(note.pid) } satisfies Note))
}

/** Takes the note away, unless the next run has written its own there already. */
export function forget(pidFile: string, pid: number) {
  if (read(pidFile)?.pid === pid) rmSync(pidFile, { force: true })
}

/** Ends what a crashed run recorded in a directory, where it is still the same program. */
export async function endLeftovers(directory: string): Promise<void> {
  const pidFiles = readdirSync(directory).filter((file) => file.endsWith('.pid'))
  await Promise.all(pidFiles.map((file) => endLeftover(join(directory, file))))
}

async function endLeftover(pidFile: string) {
  const note = read(pidFile)
  if (note) await endRecorded(note)
  rmSync(pidFile, { force: true })
}

async function endRecorded({ pid, commandLine: recorded, stopSignal, graceMs }: Note) {
  const killAt = performance.now() + graceMs
  for (let name: NodeJS.Signals | undefined = stopSignal; commandLine(pid) === recorded; name = undefined) {
    if (name) signal(pid, name)
    if (performance.now() > killAt) signal(pid, 'SIGKILL')
    await sleep(20)
  }
}

function read(pidFile: string): Note | undefined {
  try {
    const note = JSON.parse(readFileSync(pidFile, 'utf8')) as Note
    return note.pid > 1 && note.commandLine ? note : undefined
  } catch {
    return undefined // none, or one half written
  }
}

/** The command line of a running process, empty where there is none. */
export function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').join(' ').trim()
  } catch {
    if (process.platform === 'linux') return ''
    return spawnSync('ps', ['-ww', '-o', 'command=', '-p', String(pid)], { encoding: 'utf8' }).stdout?.trim() ?? ''
  }
}

/** Sends a signal to a process, then to the children it has: one that is stopped first makes no more of them. */
export function signalTree(pid: number, name: NodeJS.Signals): void {
  if (pid <= 1) return
  signal(pid, name)
  for (const child of childrenOf(pid)) signal(child, name)
}

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
  } catch {
    if (process.platform === 'linux') return []
    const pairs = spawnSync('ps', ['-A', '-o', 'ppid=,pid='], { encoding: 'utf8' }).stdout ?? ''
    return pairs.split('\n').flatMap((line) => {
      const [parent, child] = line.trim().split(/\s+/).map(Number)
      return parent === pid && child ? [child] : []
    })
  }
}

function signal(pid: number, name: NodeJS.Signals) {
  try {
    process.kill(pid, name)
  } catch {
    // gone meanwhile
  }
}
