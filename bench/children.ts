/** The processes that a benchmark starts. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'

const children: ChildProcess[] = []

/** Starts one of ours by its script. It ends with us: its stdin is the other end of a pipe. @param env beside our own */
export function startChild(args: string[], env: Record<string, string> = {}): ChildProcess {
  const child = spawn(process.execPath, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'inherit'] })
  children.push(child)
  return child
}

/** Ends all that still run, the youngest first. */
export async function endChildren(): Promise<void> {
  for (const child of children.toReversed()) {
    if (child.exitCode !== null) continue
    child.kill('SIGTERM')
    child.stdin?.end()
    await once(child, 'exit')
  }
}
