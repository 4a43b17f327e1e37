/** Programs of the system: found on PATH, or installed with apt-get where we may. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, openSync, readdirSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { lastLines } from './processes.ts'
import { during, type Say } from './report.ts'
import { claimInTurn } from './state.ts'

/** The full path of a program on PATH or in one of the other directories. */
export function find(program: string, elsewhere: string[] = []): string | undefined {
  const directories = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/bin', '/usr/bin', '/usr/sbin', ...elsewhere]
  return directories.map((directory) => join(directory, program)).find(isExecutable)
}

/** The subdirectories of a directory, the highest version first. */
export function versionsIn(directory: string): string[] {
  try {
    const byVersion = new Intl.Collator('en', { numeric: true }).compare
    return readdirSync(directory)
      .sort((a, b) => byVersion(b, a))
      .map((version) => join(directory, version))
  } catch {
    return []
  }
}

/**
 * Installs packages, where there is an apt-get and we are root or have sudo without a password.
 * @returns false where that cannot be; a failing installation throws
 */
export async function install(say: Say, title: string, packages: string[]): Promise<boolean> {
  const asRoot = await rootPrefix()
  if (!find('apt-get') || !asRoot) return false
  const turn = await claimInTurn('apt') // one at a time, for servers are started side by side
  try {
    await during(say, `${title}: installing ${packages.join(' ')} with apt-get`, () =>
      aptGet(asRoot, packages, join(turn.directory, 'apt.log')),
    )
    return true
  } finally {
    await turn.release()
  }
}

// Debian starts a server as soon as it is installed, on its standard port. policy-rc.d is the way to say no to that; one that is
// already there is left as it is.
const aptScript = `
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\\nexit 101\\n' > "$policy" && chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
get() { apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"; }
get "$@" || { apt-get update && get "$@"; }
`

async function aptGet(asRoot: string[], packages: string[], log: string) {
  const output = openSync(log, 'w')
  const [command = 'sh', ...rest] = [...asRoot, 'sh', '-c', aptScript, 'sh', ...packages]
  // Not under a supervisor: a package half configured is worse than one minute of apt-get after our end.
  const apt = spawn(command, rest, { stdio: ['ignore', output, output] })
  const [code] = await once(apt, 'exit')
  if (code !== 0) throw new Error(`apt-get install ${packages.join(' ')} failed; ${log} says:\n${lastLines(log)}`)
}

async function rootPrefix(): Promise<string[] | undefined> {
  if (process.getuid?.() === 0) return []
  const sudo = find('sudo')
  if (!sudo) return undefined
  const [code] = await once(spawn(sudo, ['-n', 'true'], { stdio: 'ignore' }), 'exit')
  return code === 0 ? [sudo, '-n'] : undefined
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
