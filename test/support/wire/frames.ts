/** How bytes on a connection fall into questions and answers, for each protocol that the service speaks. In all of them a server answers in the order of the questions. */

import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'

/** One message as it goes over the wire. */
export interface Frame {
  bytes: Buffer
  /** What is asked: a statement's name or text, a command with its words, an API of Kafka, a method and path. Empty for what is no question of its own. */
  asks: string
  /** Whether an answer belongs to it (from the server: whether an answer ends with it). */
  counts: boolean
}

/** @returns the next whole frame, or undefined where more bytes have to come. `first`: nothing was cut from this connection before */
export type Cut = (bytes: Buffer, first: boolean) => Frame | undefined

export interface Protocol {
  questions: Cut
  answers: Cut
}

const frameOf = (bytes: Buffer, end: number, asks = '', counts = true): Frame | undefined =>
  end > bytes.length ? undefined : { bytes: bytes.subarray(0, end), asks, counts }

const textUntilNul = (bytes: Buffer, from: number) => bytes.toString('utf8', from, bytes.indexOf(0, from))

/** A bind by its statement's name; without one, the statement is named by the parse before it, which is a question then. */
function askedOfPostgres(bytes: Buffer): string {
  const type = String.fromCharCode(bytes[0]!)
  if (type === 'Q') return textUntilNul(bytes, 5)
  const name = textUntilNul(bytes, type === 'B' ? bytes.indexOf(0, 5) + 1 : 5)
  if (type === 'B') return name
  return type === 'P' && name === '' ? textUntilNul(bytes, 6) : ''
}

const postgres: Protocol = {
  questions(bytes, first) {
    if (bytes.length < 5) return undefined
    if (first) return frameOf(bytes, bytes.readInt32BE(0))
    const end = 1 + bytes.readInt32BE(1)
    if (end > bytes.length) return undefined
    // What was sent up to a sync, or a simple query, is answered together.
    return frameOf(bytes, end, askedOfPostgres(bytes.subarray(0, end)), /[QS]/.test(String.fromCharCode(bytes[0]!)))
  },
  answers: (bytes) => (bytes.length < 5 ? undefined : frameOf(bytes, 1 + bytes.readInt32BE(1), '', bytes[0] === 'Z'.charCodeAt(0))),
}

/** Where the value that begins at `from` ends, in RESP 2 and 3; undefined where it has not come yet. */
function endOfRedisValue(bytes: Buffer, from: number): number | undefined {
  const line = bytes.indexOf('\r\n', from)
  if (line === -1) return undefined
  const type = String.fromCharCode(bytes[from]!)
  const count = Number(bytes.toString('latin1', from + 1, line))
  if ('$=!'.includes(type)) return count < 0 ? line + 2 : line + 2 + count + 2
  const values = '*~>'.includes(type) ? count : type === '%' ? 2 * count : 0
  let end: number | undefined = line + 2
  for (let i = 0; i < values && end !== undefined; i++) end = endOfRedisValue(bytes, end)
  return end
}

const sha1 = (text: string) => createHash('sha1').update(text).digest('hex')

const bullScripts = createRequire(import.meta.url)('bullmq/dist/cjs/scripts') as Record<string, { name: string; content: string }>

/** Redis knows a script by the SHA-1 of its text. */
const scriptNames = new Map(Object.values(bullScripts).map(({ name, content }) => [sha1(content), name]))

/** A command with its words. A script of BullMQ has its name there, such as `script moveToActive`, and then its keys and arguments. */
function askedOfRedis(bytes: Buffer): string {
  const words: string[] = []
  for (let at = bytes.indexOf('\n') + 1; at < bytes.length; at = endOfRedisValue(bytes, at)!) {
    words.push(bytes.toString('utf8', bytes.indexOf('\n', at) + 1, endOfRedisValue(bytes, at)! - 2))
  }
  const [command, text = '', , ...keysAndArguments] = words
  if (!/^eval(sha)?$/i.test(command!)) return words.join(' ')
  const sha = /^evalsha$/i.test(command!) ? text : sha1(text)
  return ['script', scriptNames.get(sha) ?? sha, ...keysAndArguments].join(' ')
}

const redis: Protocol = {
  questions(bytes) {
    const end = endOfRedisValue(bytes, 0)
    return end === undefined ? undefined : frameOf(bytes, end, askedOfRedis(bytes.subarray(0, end)))
  },
  answers(bytes) {
    const end = endOfRedisValue(bytes, 0)
    return end === undefined ? undefined : frameOf(bytes, end, '', bytes[0] !== '>'.charCodeAt(0))
  },
}

/** https://kafka.apache.org/protocol#protocol_api_keys */
const kafkaApis: Record<number, string> = {
  0: 'produce',
  1: 'fetch',
  2: 'list-offsets',
  3: 'metadata',
  8: 'offset-commit',
  9: 'offset-fetch',
  10: 'find-coordinator',
  11: 'join-group',
  12: 'heartbeat',
  13: 'leave-group',
  14: 'sync-group',
  18: 'api-versions',
  19: 'create-topics',
  22: 'init-producer-id',
}

const kafka: Protocol = {
  questions(bytes) {
    if (bytes.length < 6) return undefined
    const api = bytes.readInt16BE(4)
    return frameOf(bytes, 4 + bytes.readInt32BE(0), kafkaApis[api] ?? `api ${api}`)
  },
  answers: (bytes) => (bytes.length < 4 ? undefined : frameOf(bytes, 4 + bytes.readInt32BE(0))),
}

function httpFrame(bytes: Buffer): Frame | undefined {
  const head = bytes.indexOf('\r\n\r\n')
  if (head === -1) return undefined
  const text = bytes.toString('latin1', 0, head)
  const length = Number(/^content-length: *(\d+)/im.exec(text)?.[1] ?? 0)
  return frameOf(bytes, head + 4 + length, text.split(' ', 2).join(' '))
}

const http: Protocol = { questions: httpFrame, answers: httpFrame }

export const protocols = { postgres, redis, kafka, http }
