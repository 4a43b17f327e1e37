/**
 * The lines between one process of the service and everything that it talks to. Each question is seen before it is passed on, and each
 * answer too, so that a process can be made to die exactly there.
 */
import { connect, createServer, type Server, type Socket } from 'node:net'
import { once } from 'node:events'
import { freePort } from '../services/ports.ts'
import { type Frame, type Protocol, protocols } from './frames.ts'

/** Who is asked. */
export type Party = 'postgres' | 'redis' | 'kafka' | 'catalog' | 'shipping'

export interface Question {
  to: Party
  asks: string
}

export type IsAsked = (question: Question) => boolean

/** Between two questions: `before` the last of these has left, or `after` it was answered, which the process does not hear. */
export interface Place {
  when: 'before' | 'after'
  /** Questions that come one after the other, whatever lies between them. */
  path: readonly IsAsked[]
}

export interface Wire {
  /** The environment of a process that talks through here. */
  env: Record<string, string>
  /** Everything that was asked, in the order in which it left. */
  asked: readonly Question[]
  /** Calls `then` when this place is reached: where it says `cut`, no line lets anything pass any more. */
  at(place: Place, then: () => 'cut' | 'passes'): void
  close(): Promise<void>
}

/** @param env of a process that would talk to everybody directly */
export async function openWire(env: Record<string, string>): Promise<Wire> {
  const asked: Question[] = []
  const servers: Server[] = []
  const sockets = new Set<Socket>()
  let isCut = false
  let watched: { when: Place['when']; path: IsAsked[]; reached: () => 'cut' | 'passes' } | undefined

  /** Whether this is the last question on the way to the place that is watched for. */
  function leadsThere(question: Question): boolean {
    if (!watched?.path[0]?.(question)) return false
    watched.path.shift()
    return watched.path.length === 0
  }

  function reach(): void {
    isCut = watched!.reached() === 'cut'
    watched = undefined
    if (isCut) for (const socket of sockets) socket.destroy()
  }

  async function line(to: Party, protocol: Protocol, address: { host: string; port: number }): Promise<number> {
    const port = await freePort()
    const place = { host: address.host, port: address.port, here: port }
    const server = createServer((near) => join(to, protocol, near, place))
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    servers.push(server)
    return port
  }

  function join(to: Party, protocol: Protocol, near: Socket, { host, port, here }: { host: string; port: number; here: number }): void {
    if (isCut) return void near.destroy()
    const far = connect({ host, port, noDelay: true })
    near.setNoDelay(true)
    let questions = 0
    let answers = 0
    /** The answer that must not arrive. */
    let last: number | undefined

    const ask = ({ asks, counts }: Frame): void => {
      if (asks !== '') {
        const question = { to, asks }
        if (leadsThere(question)) {
          if (watched!.when === 'before') reach()
          else last = questions + 1
          if (isCut) return
        }
        asked.push(question)
      }
      if (counts) questions += 1
    }
    const answer = ({ counts }: Frame): void => {
      if (counts) answers += 1
      if (last !== undefined && counts && answers === last && watched) reach()
    }
    pass(near, far, protocol.questions, ask)
    pass(far, near, protocol.answers, answer, (bytes) => (to === 'kafka' ? saying(bytes, { host, port }, here) : bytes))
  }

  function pass(from: Socket, into: Socket, cut: Protocol['questions'], see: (frame: Frame) => void, as = (bytes: Buffer) => bytes): void {
    let rest: Buffer = Buffer.alloc(0)
    let first = true
    sockets.add(from)
    from.on('data', (bytes: Buffer) => {
      rest = Buffer.concat([rest, bytes])
      for (;;) {
        const frame = cut(rest, first)
        if (!frame) return
        first = false
        rest = rest.subarray(frame.bytes.length)
        see(frame)
        if (isCut) return
        into.write(as(frame.bytes))
      }
    })
    from.on('error', () => {})
    from.on('close', () => {
      sockets.delete(from)
      into.destroy()
    })
  }

  const lines: Record<string, string> = {}
  for (const [name, to, protocol] of [
    ['POSTGRES_DSN', 'postgres', protocols.postgres],
    ['REDIS_URL', 'redis', protocols.redis],
    ['CATALOG_BASE', 'catalog', protocols.http],
    ['SHIPPING_BASE', 'shipping', protocols.http],
  ] as const) {
    const url = new URL(env[name]!)
    const port = await line(to, protocol, { host: url.hostname, port: Number(url.port) })
    lines[name] = env[name]!.replace(url.host, `127.0.0.1:${port}`)
  }
  const [host, port] = env.KAFKA_BOOTSTRAP!.split(':') as [string, string]
  lines.KAFKA_BOOTSTRAP = `127.0.0.1:${await line('kafka', protocols.kafka, { host, port: Number(port) })}`

  return {
    env: { ...env, ...lines },
    asked,
    at({ when, path }, reached) {
      watched = { when, path: [...path], reached }
    },
    async close() {
      isCut = true
      for (const socket of sockets) socket.destroy()
      await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
    },
  }
}

/** A broker tells its clients where it is, as host and port: they are to come here instead. */
function saying(bytes: Buffer, { host, port }: { host: string; port: number }, here: number): Buffer {
  const address = Buffer.concat([Buffer.from(host), portOf(port)])
  let told = bytes
  for (let at = told.indexOf(address); at !== -1; at = told.indexOf(address, at + 1)) {
    if (told === bytes) told = Buffer.from(bytes)
    portOf(here).copy(told, at + host.length)
  }
  return told
}

function portOf(port: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(port)
  return bytes
}
