/**
 * The operators' command line. It works directly on PostgreSQL and the queues.
 *
 *     node src/order-admin.ts [GROUP] COMMAND [arguments]     `--help` lists the commands
 *
 * Exit codes: 0 done; 1 partly done; 64 wrong command line; 69 PostgreSQL or Redis unavailable; 75 not done within the time-out;
 * 78 wrong environment.
 */
import { parseArgs } from 'node:util'
import { act } from './admin/act.ts'
import { actions } from './admin/actions.ts'
import { type Command, type Group, openTools, postgresFault, TimedOut, Unavailable, UsageError } from './admin/command.ts'
import { deadLetters } from './admin/dead-letters.ts'
import { drainCommand } from './admin/drain.ts'
import { inventory } from './admin/inventory.ts'
import { orderCommand, ordersCommand } from './admin/orders.ts'
import { problemsCommand } from './admin/problems.ts'
import { safe } from './admin/shown.ts'
import { ActionRefused } from './operators/action.ts'
import { ConfigError, readAdminConfig, readCatalogConfig } from './config.ts'

const commands: Record<string, Group | Command> = {
  problems: problemsCommand,
  orders: ordersCommand,
  order: orderCommand,
  'dead-letters': deadLetters,
  inventory,
  act,
  actions,
  drain: drainCommand,
}
const isCommand = (one: Group | Command): one is Command => typeof one.prepare === 'function'
/** `EX_USAGE`, `EX_UNAVAILABLE`, `EX_TEMPFAIL` and `EX_CONFIG` of sysexits.h. */
const EXIT = { refused: 1, usage: 64, unavailable: 69, timedOut: 75, config: 78 }

const usage = () =>
  Object.entries(commands)
    .flatMap(([name, one]) =>
      (isCommand(one) ? [one] : Object.values(one)).map((command) => [`order-admin ${name} ${command.usage}`, command.about] as const),
    )
    .map(([line, about]) => `  ${line}\n      ${about}`)
    .join('\n')

function find([groupName, ...args]: readonly string[]) {
  if (groupName === undefined) throw new UsageError('No command given; write one of these:')
  const group = Object.hasOwn(commands, groupName) ? commands[groupName]! : undefined
  if (group && isCommand(group)) return { command: group, rest: args }
  const [commandName, ...rest] = args
  if (!group) throw new UsageError(`Unknown command ${JSON.stringify(groupName)}; write one of these:`)
  const command = commandName !== undefined && Object.hasOwn(group, commandName) ? group[commandName] : undefined
  if (!command)
    throw new UsageError(
      commandName === undefined
        ? `No command given after ${groupName}; write one of these:`
        : `Unknown command ${groupName} ${JSON.stringify(commandName)}; write one of these:`,
    )
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
  const run = command.prepare({ values, positionals }) // before connecting, so that a wrong command line changes nothing
  const tools = openTools(readAdminConfig(process.env), () => readCatalogConfig(process.env))
  try {
    return (await run(tools)) ? 0 : 1
  } finally {
    await tools.close()
  }
}

function report(error: unknown): number {
  const printError = (text: string) => process.stderr.write(`${text}\n`)
  if (error instanceof UsageError) {
    printError(`${safe(error.message)}\n${usage()}`)
    return EXIT.usage
  }
  if (error instanceof ConfigError) {
    printError(error.message)
    return EXIT.config
  }
  if (error instanceof ActionRefused) {
    printError(`${safe(error.message)}; nothing was changed`)
    return EXIT.refused
  }
  if (error instanceof TimedOut) {
    printError(error.message)
    return EXIT.timedOut
  }
  const unavailable = error instanceof Unavailable ? error : postgresFault(error)
  if (unavailable) {
    printError(unavailable.message)
    return EXIT.unavailable
  }
  throw error
}

// A pipe that is closed early (`| head`) is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})
process.exitCode = await main(process.argv.slice(2)).catch(report)
