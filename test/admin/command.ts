/** The operators' command as a process of its own. It ends with the test at the latest. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'

export interface Said {
  code: number | null
  out: string
  err: string
}

export interface Running {
  said: Promise<Said>
  /** What it has written to stderr so far. */
  err(): string
  kill(): void
}

const root = fileURLToPath(new URL('../../', import.meta.url))

/** What `bin/order-admin` runs, with nothing in its environment but this. */
export function startAdmin(args: readonly string[], env: Record<string, string>): Running {
  const { PATH, NODE_COMPILE_CACHE } = process.env
  const child = spawn(process.execPath, ['src/order-admin.ts', ...args], { cwd: root, env: { PATH, NODE_COMPILE_CACHE, ...env } })
  let err = ''
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => void (err += chunk))
  const said = Promise.all([once(child, 'close'), text(child.stdout)]).then(([[code], out]) => ({ code: code as number | null, out, err }))
  return { said, err: () => err, kill: () => void child.kill('SIGKILL') }
}

export const admin = (args: readonly string[], env: Record<string, string>): Promise<Said> => startAdmin(args, env).said
