/**
 * A process between us and a program we start: it ends the program when we are gone, also by `kill -9`, which shows as the end of
 * its standard input. It stands in a session of its own, so that a Ctrl-C or a signal to our group does not reach it before us.
 *
 * Run as `node supervisor.ts <job as JSON>`; file descriptor 3 carries the program's process id back.
 */
import { spawn } from 'node:child_process'
import { openSync, writeSync } from 'node:fs'
import { constants } from 'node:os'
import { type Job, forget, remember } from './processes.ts'

const job = JSON.parse(process.argv[2] ?? '') as Job
const output = job.log ? openSync(job.log, 'a') : 'inherit'
const [command = '', ...args] = job.command

const program = spawn(command, args, {
  cwd: job.directory,
  env: { ...process.env, ...job.env },
  ...job.user,
  detached: true, // a group of its own: what it starts in turn ends with it
  stdio: ['ignore', output, output],
})

const { stopSignal = 'SIGTERM', graceMs = 5000 } = job

let ending = false
function end() {
  if (ending) return
  ending = true
  signal(stopSignal)
  setTimeout(() => signal('SIGKILL'), graceMs)
}

function signal(name: NodeJS.Signals) {
  try {
    if (program.pid) process.kill(-program.pid, name)
  } catch {
    // gone already
  }
}

program.on('spawn', () => {
  if (job.pidFile) remember(job.pidFile, { pid: program.pid!, stopSignal, graceMs })
  try {
    writeSync(3, `${program.pid}\n`)
  } catch {
    end() // nobody is there to read it
  }
})
program.on('error', (error) => {
  console.error(`${command} cannot be started: ${error.message}`)
  process.exit(127)
})
program.on('exit', (code, by) => {
  signal('SIGKILL') // the rest of its group
  if (job.pidFile) forget(job.pidFile, program.pid!)
  process.exit(code ?? 128 + (by ? constants.signals[by] : 0))
})

process.stdin.on('end', end).on('error', end).resume()
for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(name, end)
