/**
 * What operators do on the command line, straight on PostgreSQL and the queues:
 *
 *     node src/order-admin.ts [GROUP] COMMAND [arguments]     without any, it says what there is
 *
 * Exit codes: 0 done; 1 not all of it could be done; 75 not done within the time that was given; 64 the command line, 78 the environment
 * is wrong; 69 PostgreSQL or Redis is away.
 */
import { parseArgs } from 'node:util'
import { type Command, type Group, openTools, postgresFault, TimedOut, Unavailable, UsageError } from './admin/command.ts'
import { deadLetters } from './admin/dead-letters.ts'
import { drainCommand } from './admin/drain.ts'
import { inventory } from './admin/inventory.ts'
import { safe } from './admin/shown.ts'
import { ConfigError, readAdminConfig, readCatalogConfig } from './config.ts'

const commands: Record<string, Group | Command> = { 'dead-letters': deadLetters, inventory, drain: drainCommand }
const isCommand = (one: Group | Command): one is Command => typeof one.prepare === 'function'
/** `EX_USAGE`, `EX_UNAVAILABLE`, `EX_TEMPFAIL` and `EX_CONFIG` of sysexits.h. */
const EXIT = { usage: 64, unavailable: 69, timedOut: 75, config: 78 }

const usage = () =>
  Object.entries(commands)
    .flatMap(([name, one]) =>
      (isCommand(one) ? [one] : Object.values(one)).map((command) => [`order-admin ${name} ${command.usage}`, command.about] as const),
    )
    .map(([line, about]) => `  ${line}\n      ${about}`)
    .join('\n')

function find([groupName, ...args]: readonly string[]) {
  if (groupName === undefined) throw new UsageError('Name a command')
  const group = Object.hasOwn(commands, groupName) ? commands[groupName]! : undefined
  if (group && isCommand(group)) return { command: group, rest: args }
  const [commandName, ...rest] = args
  if (!group) throw new UsageError(`There is no ${JSON.stringify(groupName)}`)
  const command = commandName !== undefined && Object.hasOwn(group, commandName) ? group[commandName] : undefined
  if (!command)
    throw new UsageError(commandName === undefined ? 'Name a command' : `There is no ${groupName} ${JSON.stringify(commandName)}`)
  return { command, rest }
}

function parsed(args: readonly string[], options: NonNullable<Parameters<typeof parseArgs>[0]>['options']) {
  try {
    return parseArgs({ args: [...args], options: options ?? {}, allowPositionals: true, strict: true })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

async function main(args: readonly string[]): Promise<number> {
  if (args.some((arg) => arg === '--help' || arg === '-h')) {
    process.stdout.write(`${usage()}\n`)
    return 0
  }
  const { command, rest } = find(args)
  const { values, positionals } = parsed(rest, command.options)
  const run = command.prepare({ values, positionals }) // before anything is asked: a wrong command line changes nothing
  const tools = openTools(readAdminConfig(process.env), () => readCatalogConfig(process.env))
  try {
    return (await run(tools)) ? 0 : 1
  } finally {
    await tools.close()
  }
}

function complain(error: unknown): number {
  const say = (text: string) => process.stderr.write(`${text}\n`)
  if (error instanceof UsageError) {
    say(`${safe(error.message)}\n${usage()}`)
    return EXIT.usage
  }
  if (error instanceof ConfigError) {
    say(error.message)
    return EXIT.config
  }
  if (error instanceof TimedOut) {
    say(error.message)
    return EXIT.timedOut
  }
  const away = error instanceof Unavailable ? error : postgresFault(error)
  if (away) {
    say(away.message)
    return EXIT.unavailable
  }
  throw error
}

// A pipe that is closed early (`| head`) is no fault.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})
process.exitCode = await main(process.argv.slice(2)).catch(complain)
