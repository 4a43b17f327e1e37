/**
 * Starts the named roles, or all of them in one process:
 *
 *     node src/main.ts [web] [worker] [bridge] [relay]     runs until SIGTERM or SIGINT
 *     node src/main.ts release                             applies the migrations and ends
 */
import { ConfigError, readConfig } from './config.ts'
import { migrate } from './db/migrate.ts'
import { allRoles, type Role } from './service/connect.ts'
import { startService } from './service/start.ts'
import { createLogger } from './telemetry/logger.ts'

/** `EX_USAGE`, `EX_SOFTWARE`, `EX_TEMPFAIL` and `EX_CONFIG` of sysexits.h. */
const EXIT = { usage: 64, fault: 70, stalled: 75, config: 78 }
/** After this the process exits, whatever still runs. */
const END_MS = 15_000

function fail(lines: readonly string[], code: number): never {
  process.stderr.write(`${lines.join('\n')}\n`)
  process.exit(code)
}

function configure() {
  try {
    return readConfig(process.env)
  } catch (error) {
    if (error instanceof ConfigError) fail(error.faults, EXIT.config)
    throw error
  }
}

const named = process.argv.slice(2)
const unknown = named.filter((name) => name !== 'release' && !allRoles.includes(name as Role))
if (unknown.length > 0 || (named.includes('release') && named.length > 1)) {
  fail(
    [
      unknown.length > 0
        ? `Unknown process ${unknown.join(', ')}; name one or more of ${allRoles.join(', ')}, or release alone`
        : `release cannot be combined with other processes; run release alone`,
    ],
    EXIT.usage,
  )
}
const config = configure()
const logger = createLogger(config.LOG_LEVEL)

/** Only for errors that waiting cannot fix; a server that is away is waited for. */
function endAtFault(error: unknown): never {
  logger.fatal({ err: error }, 'process could not start')
  process.exit(EXIT.fault)
}

if (named[0] === 'release') {
  await migrate(config.POSTGRES_DSN, logger).catch(endAtFault)
} else {
  const service = await startService(config, new Set(named.length > 0 ? (named as Role[]) : allRoles), logger).catch(endAtFault)
  let ending = false
  const end = async (code: number) => {
    ending = true
    setTimeout(() => process.exit(code), END_MS)
    await service.stop()
    logger.info('process ended')
    process.exit(code)
  }
  const endBySignal = (signal: string) => {
    if (ending) return
    logger.info({ signal }, 'process ending')
    void end(0)
  }
  process.on('SIGTERM', endBySignal)
  process.on('SIGINT', endBySignal)
  const endStalled = (reason: string) => {
    if (ending) return
    logger.fatal({ reason }, 'component stalled again after its restart; ending the process')
    void end(EXIT.stalled)
  }
  void service.stalled.then(endStalled)
  service.started.catch((error) => {
    if (!ending) endAtFault(error)
  })
}
