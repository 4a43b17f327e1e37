/** Starts and stops the child processes of a benchmark. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'

const children: ChildProcess[] = []

/** Starts a script of ours. It ends with this process, because its stdin is our pipe. @param env added to our own environment */
export function startChild(args: string[], env: Record<string, string> = {}): ChildProcess {
  const child = spawn(process.execPath, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'inherit'] })
  children.push(child)
  return child
}

/** Stops all running children, the youngest first. */
export async function endChildren(): Promise<void> {
  for (const child of children.toReversed()) {
    if (child.exitCode !== null) continue
    child.kill('SIGTERM')
    child.stdin?.end()
    await once(child, 'exit')
  }
}
