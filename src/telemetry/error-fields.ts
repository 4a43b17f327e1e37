/**
 * Selects what a log or page may show of an error: never bytes that a customer sent. Everything here is an allow list.
 * Libraries put statements, rows, commands and bodies into their errors, and values into their messages:
 * `invalid input syntax for type integer: "ada@example.com"`, `Unexpected token 'a', "ada@exampl"... is not valid JSON`.
 */
import { fileURLToPath } from 'node:url'

const sources = new URL('../', import.meta.url)
const FRAME = /^ {4}at (?:.* )?\(?(?:file:\/\/|node:|\/)\S+:\d+:\d+\)?$|^ {4}at .* \(<anonymous>\)$/
/** An error may be its own cause. */
const MOST_CAUSES = 5
const MOST_MEMBERS = 5

/** SQLSTATE classes whose messages name statements, the login or the server's state. Other classes (22, 23, P0) name values. */
const POSTGRES_NAMES_NO_VALUE = /^(08|25|28|3D|3F|40|42|53|54|55|57|58)/
/** Other errors of Redis may quote a command's arguments. */
const REDIS_NAMES_NO_VALUE =
  /^(WRONGPASS|NOAUTH|NOPERM|READONLY|LOADING|CLUSTERDOWN|MASTERDOWN|NOREPLICAS|OOM|MISCONF|BUSY|WRONGTYPE|ERR max number|ERR ACL failure) /
const KAFKA_NAMES_NO_VALUE =
  /^KafkaJS(Connection|ConnectionClosed|RequestTimeout|BrokerNotFound|GroupCoordinatorNotFound|SASLAuthentication|LockTimeout|TopicMetadataNotLoaded)(Error)?$/
/** Constant messages of pg, ioredis and Node. */
const FIXED = new RegExp(
  [
    '^(Connection terminated( unexpectedly| due to connection timeout)?|Query read timeout|timeout expired',
    '|timeout exceeded when trying to connect|Client has encountered a connection error and is not queryable',
    "|Connection is closed\\.|Command timed out|Stream isn't writeable and enableOfflineQueue options is false",
    '|None of startup nodes is available|All sentinels are unreachable\\..*|Failed to refresh slots cache\\.',
    '|Th(e|is) operation was aborted( due to timeout)?|other side closed|Missing lock for job \\d+\\.[\\w ]+)$',
  ].join(''),
)

/** V8 quotes the operand. */
const V8_QUOTES = /^Cannot (create property|use 'in' operator)/

type Fields = Record<string, unknown>
type Any = Error & Record<'code' | 'severity' | 'syscall' | 'type' | 'constraint' | 'table' | 'column' | 'errors', unknown>

const isWord = (value: unknown): value is string => typeof value === 'string' && /^[\w.-]{1,80}$/.test(value)

function nameOf(error: Error): string {
  return [error.name === 'Error' ? error.constructor?.name : error.name, error.name].find(isWord) ?? 'Error'
}

/** The frames of a stack without its message, which may have lines that look like frames. */
function framesOf({ stack, message }: Error): string[] {
  if (typeof stack !== 'string') return []
  const at = stack.indexOf(message)
  return stack
    .slice(at < 0 ? 0 : at + message.length)
    .split('\n')
    .filter((line) => FRAME.test(line))
}

/** Whether our own code created the error and so wrote its message. Errors of V8 or a library start in another file. */
const isOurs = ([first = '']: readonly string[]): boolean =>
  !first.includes('node_modules') && [sources.href, fileURLToPath(sources)].some((place) => first.includes(place))

/** The message of an error, if it cannot contain foreign values. */
function messageOf(error: Error): string | undefined {
  const { message, code, severity, syscall, type } = error as Any
  if (typeof message !== 'string') return undefined
  const name = nameOf(error)
  const isShown =
    typeof severity === 'string' && typeof code === 'string'
      ? POSTGRES_NAMES_NO_VALUE.test(code)
      : (typeof syscall === 'string' && isWord(code)) ||
        (name === 'ReplyError' && REDIS_NAMES_NO_VALUE.test(message)) ||
        (name.startsWith('KafkaJS') && typeof type === 'string') ||
        KAFKA_NAMES_NO_VALUE.test(name) ||
        FIXED.test(message) ||
        (isOurs(framesOf(error)) && !V8_QUOTES.test(message) && !(error instanceof SyntaxError))
  return isShown ? withoutEmails(message) : undefined
}

/** It begins at the first character of a word only, so that a long word is not searched again from each of its characters. */
const EMAILS = /(?<![^\s"'<>(),;])[^\s"'<>(),;]+@[^\s"'<>(),;]+/g

/** `text` with every email address in it as `***`. */
export const withoutEmails = (text: string): string => text.replace(EMAILS, '***')

/** What a log shows of a thrown value: its kind, code and frames, and its message if that cannot contain foreign values. */
export function errorFields(error: unknown, depth = 0): Fields {
  if (!(error instanceof Error)) return { name: typeof error }
  const { code, cause, errors, constraint, table, column } = error as Any
  const message = messageOf(error)
  const fields: Fields = { name: nameOf(error) }
  if (message !== undefined) fields.message = message
  for (const [key, value] of Object.entries({ code, constraint, table, column })) {
    if (isWord(value) || typeof value === 'number') fields[key] = value
  }
  fields.stack = [nameOf(error), ...framesOf(error)].join('\n')
  if (depth < MOST_CAUSES && cause instanceof Error) fields.cause = errorFields(cause, depth + 1)
  if (depth < MOST_CAUSES && Array.isArray(errors))
    fields.errors = errors.slice(0, MOST_MEMBERS).map((one) => errorFields(one, MOST_CAUSES))
  return fields
}

/** A short reason: the first message in the chain of causes that may be shown, else a code, else the kind of error. */
export function reasonOf(error: unknown): string {
  const chain: Error[] = []
  for (let one = error; one instanceof Error && chain.length <= MOST_CAUSES; one = one.cause) chain.push(one)
  const codes = chain.map((one) => (one as Any).code).filter(isWord)
  return chain.map(messageOf).find(Boolean) ?? codes[0] ?? (chain[0] ? nameOf(chain[0]) : typeof error)
}
