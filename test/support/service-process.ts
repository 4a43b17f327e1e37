/** `node src/main.ts` as a process of its own: what it logs, where it listens, how it ends. It ends with the test at the latest. */
import { createInterface } from 'node:readline'
import { freePort } from './services/ports.ts'
import { start } from './services/processes.ts'
import { checkout } from './services/state.ts'
import { until } from './until.ts'

export interface LogLine {
  level: number
  msg: string
  [field: string]: unknown
}

export interface ServiceProcess {
  pid: number
  url: string
  /** What it has logged so far. */
  log: readonly LogLine[]
  exited: Promise<number>
  /** Until it has logged a line with this text. */
  logged(msg: string): Promise<LogLine>
  /** SIGTERM. @returns its exit code */
  stop(): Promise<number>
}

/** @param args the processes to run in it; all of them where none is named. It listens on `port`, or one that is free */
export async function startProcess(
  t: { teardown(end: () => Promise<unknown>): void },
  args: readonly string[],
  env: Record<string, string>,
  { port = freePort() as number | Promise<number> } = {},
): Promise<ServiceProcess> {
  const at = String(await port)
  const job = {
    command: [process.execPath, 'src/main.ts', ...args],
    directory: checkout,
    env: { ...env, PORT: at, METRICS_PORT: at, LOG_LEVEL: 'info' },
    graceMs: 16_000,
  }
  const started = await start(job, 'pipe')
  t.teardown(started.end)
  const log: LogLine[] = []
  createInterface({ input: started.stdout! }).on('line', (line) => log.push(JSON.parse(line) as LogLine))

  return {
    pid: started.pid,
    url: `http://127.0.0.1:${at}`,
    log,
    exited: started.exited,
    async logged(msg) {
      const find = () => log.find((line) => line.msg === msg)
      return (await until(find, (line) => line !== undefined))!
    },
    async stop() {
      process.kill(started.pid, 'SIGTERM')
      return started.exited
    },
  }
}
