/** PostgreSQL with a data directory of its own and its usual durability, as an unprivileged user where we are root. */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, lstatSync, readFileSync } from 'node:fs'
import { chmod, chown, copyFile, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'pg'
import type { Certificates } from './certificates.ts'
import { dockerJob } from './docker.ts'
import { find, install, versionsIn } from './install.ts'
import { freePort } from './ports.ts'
import { commandLine, type Job, run } from './processes.ts'
import { during, type Say } from './report.ts'
import { type Server, startOnData, startServer } from './server.ts'

export type Postgres = Server & { dsn: string; port: number }

/** With `certificates`, whoever is not `postgres` has to come by TLS. */
type Options = { directory: string; port?: number; fresh?: boolean; certificates?: Certificates; say: Say }
type User = { uid: number; gid: number }

const oldestVersion = 14

/** Starts PostgreSQL with its data in the directory, making the data directory where there is none that is whole. */
export async function runPostgres({ directory, port: wanted, fresh = false, certificates, say }: Options): Promise<Postgres> {
  const port = wanted ?? (await freePort())
  const dsn = `postgresql://postgres:postgres@127.0.0.1:${port}/postgres`
  const files = { log: join(directory, 'postgres.log'), pidFile: join(directory, 'postgres.pid') }
  const probe = () => answers(dsn)
  const binaries = await findBinaries(say)
  if (!binaries) {
    const job = dockerJob('postgres', directory, { POSTGRES_PORT: port })
    const server = await during(say, `PostgreSQL: starting in Docker on port ${port}`, () =>
      startServer({ title: 'PostgreSQL', job: { ...job, ...files }, probe }),
    )
    return Object.assign(server, { dsn, port })
  }

  const user = process.getuid?.() === 0 ? unprivilegedUser() : undefined
  const home = await homeFor(user, directory)
  const data = join(home, 'data')
  if (fresh) await rm(data, { recursive: true, force: true })
  const begin = async () => {
    await makeData(binaries, home, user, directory)
    const tls = certificates ? await useTls(certificates, home, user) : {}
    const job: Job = {
      command: [join(binaries, 'postgres'), '-D', data, '-p', String(port), ...settings(home, tls)],
      directory: home,
      user,
      stopSignal: 'SIGINT', // ends sessions and checkpoints; SIGTERM would wait for the sessions
      graceMs: 10_000,
    }
    return startServer({ title: 'PostgreSQL', job: { ...job, ...files }, probe })
  }
  const server = await during(say, `PostgreSQL: starting on port ${port} (data in ${data})`, () =>
    startOnData('PostgreSQL', data, say, begin),
  )
  return Object.assign(server, { dsn, port })
}

function settings(home: string, more: Record<string, string>): string[] {
  return Object.entries({
    listen_addresses: '127.0.0.1',
    max_connections: 300, // test files run side by side, each with pools of its own
    unix_socket_directories: Buffer.byteLength(home) < 90 ? home : '', // a socket's path holds 107 bytes
    timezone: 'UTC',
    logging_collector: 'off',
    ...more,
  }).flatMap(([name, value]) => ['-c', `${name}=${value}`])
}

/** @returns settings. PostgreSQL takes no key that others may read, and runs as another user than ours. */
async function useTls({ ca, serverCertificate, serverKey }: Certificates, home: string, user: User | undefined) {
  const files = { ssl_ca_file: ca, ssl_cert_file: serverCertificate, ssl_key_file: serverKey }
  const tls: Record<string, string> = { ssl: 'on' }
  for (const [name, file] of Object.entries(files)) {
    const copy = join(home, `${name}.pem`)
    await copyFile(file, copy)
    await chmod(copy, 0o600)
    if (user) await chown(copy, user.uid, user.gid)
    tls[name] = copy
  }
  const hba = ['hostssl all all 127.0.0.1/32 trust', 'hostnossl all postgres 127.0.0.1/32 trust', 'local all all trust']
  await writeFile(join(home, 'data', 'pg_hba.conf'), `${hba.join('\n')}\n`)
  return tls
}

// Made under another name and renamed when whole: what a kill leaves half done is never taken for a data directory.
async function makeData(binaries: string, home: string, user: User | undefined, directory: string) {
  const data = join(home, 'data')
  const unfinished = `${data}.unfinished`
  await rm(unfinished, { recursive: true, force: true })
  if (existsSync(data)) {
    if (versionOf(data) === versionOf(binaries)) return forgetStrangers(data)
    await rm(data, { recursive: true }) // another major version cannot read it, or it is no data directory
  }
  await run({
    // No sync: data that is lost with the power is made again, and PostgreSQL syncs what it writes from here on.
    command: [join(binaries, 'initdb'), '-D', unfinished, '-U', 'postgres', '--auth=trust', '--encoding=UTF8', '--locale=C', '--no-sync'],
    directory: home,
    user,
    log: join(directory, 'initdb.log'),
  })
  await rename(unfinished, data)
}

// After a crash, another program may have got the process id in postmaster.pid; PostgreSQL would take it for itself and not start.
async function forgetStrangers(data: string) {
  const file = join(data, 'postmaster.pid')
  const pid = existsSync(file) ? Number.parseInt(readFileSync(file, 'utf8'), 10) : 0
  const whose = pid > 0 ? commandLine(pid) : ''
  if (whose && !whose.includes(data)) await rm(file)
}

function versionOf(place: string): string | undefined {
  if (existsSync(join(place, 'PG_VERSION'))) return readFileSync(join(place, 'PG_VERSION'), 'utf8').trim()
  if (!existsSync(join(place, 'postgres'))) return undefined
  return /(\d+)/.exec(spawnSync(join(place, 'postgres'), ['--version'], { encoding: 'utf8' }).stdout)?.[1]
}

async function findBinaries(say: Say): Promise<string | undefined> {
  const locate = () => {
    const onPath = find('postgres')
    const candidates = [
      ...(onPath ? [join(onPath, '..')] : []),
      ...versionsIn('/usr/lib/postgresql').map((version) => join(version, 'bin')),
    ]
    return candidates.find((bin) => existsSync(join(bin, 'initdb')) && Number(versionOf(bin)) >= oldestVersion)
  }
  return locate() ?? ((await install(say, 'PostgreSQL', ['postgresql'])) ? locate() : undefined)
}

function unprivilegedUser(): User {
  for (const name of ['postgres', 'nobody']) {
    const [uid, gid] = ['-u', '-g'].map((flag) => Number.parseInt(spawnSync('id', [flag, name], { encoding: 'utf8' }).stdout, 10))
    if (uid && gid) return { uid, gid }
  }
  throw new Error('PostgreSQL does not run as root, and there is no user postgres or nobody; start as another user, or set POSTGRES_DSN')
}

/** `.dev/<name>/postgres`; where the unprivileged user may not enter it, a directory it can, with a link in that place. */
async function homeFor(user: User | undefined, directory: string): Promise<string> {
  const usual = join(directory, 'postgres')
  if (!user) {
    await mkdir(usual, { recursive: true })
    return usual
  }
  if (!lstatSync(usual, { throwIfNoEntry: false })?.isSymbolicLink()) {
    await mkdir(usual, { recursive: true })
    if (canEnter(user, usual)) return own(usual, user)
    await rm(usual, { recursive: true })
    await symlink(elsewhere(usual), usual)
  }
  const home = elsewhere(usual)
  await mkdir(home, { recursive: true })
  const { uid } = lstatSync(home)
  if (uid !== 0 && uid !== user.uid) throw new Error(`${home} belongs to another user; remove it, or set POSTGRES_DSN`)
  return own(home, user)
}

const elsewhere = (usual: string) => join(tmpdir(), `order-service-${createHash('sha256').update(usual).digest('hex').slice(0, 12)}`)

async function own(home: string, user: User): Promise<string> {
  await chown(home, user.uid, user.gid)
  await chmod(home, 0o700)
  return home
}

function canEnter(user: User, directory: string): boolean {
  return spawnSync('/bin/sh', ['-c', 'cd "$1/.."', 'sh', directory], { ...user, cwd: '/' }).status === 0
}

async function answers(dsn: string) {
  const client = new Client({ connectionString: dsn, connectionTimeoutMillis: 2000 })
  client.on('error', () => {})
  await client.connect()
  try {
    await client.query('select 1')
  } finally {
    await client.end()
  }
}
