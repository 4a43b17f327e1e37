/**
 * Starts the processes that are named, or all of them in one:
 *
 *     node src/main.ts [web] [worker] [bridge] [relay]     until SIGTERM or SIGINT
 *     node src/main.ts release                             applies the migrations, and ends
 */
import { ConfigError, readConfig } from './config.ts'
import { migrate } from './db/migrate.ts'
import type { Role } from './service/connect.ts'
import { startService } from './service/start.ts'
import { createLogger } from './telemetry/logger.ts'

const roles: readonly Role[] = ['web', 'worker', 'bridge', 'relay']
/** `EX_USAGE`, `EX_SOFTWARE`, `EX_TEMPFAIL` and `EX_CONFIG` of sysexits.h. */
const EXIT = { usage: 64, fault: 70, stalled: 75, config: 78 }
/** What does not end by itself is cut off then. */
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
const unknown = named.filter((name) => name !== 'release' && !roles.includes(name as Role))
if (unknown.length > 0 || (named.includes('release') && named.length > 1)) {
  fail([`There is no process ${unknown.join(', ') || named.join(' ')}; name some of ${roles.join(', ')}, or release alone`], EXIT.usage)
}
const config = configure()
const logger = createLogger(config.LOG_LEVEL)

/** For a supervisor to start again: what can be waited for never gets here. */
function endAtFault(error: unknown): never {
  logger.fatal({ err: error }, 'could not start')
  process.exit(EXIT.fault)
}

if (named[0] === 'release') {
  await migrate(config.POSTGRES_DSN, logger).catch(endAtFault)
} else {
  const service = await startService(config, new Set(named.length > 0 ? (named as Role[]) : roles), logger).catch(endAtFault)
  let ending = false
  const end = async (code: number) => {
    ending = true
    setTimeout(() => process.exit(code), END_MS)
    await service.stop()
    logger.info('ended')
    process.exit(code)
  }
  const endAsAsked = (signal: string) => {
    if (ending) return
    logger.info({ signal }, 'ending')
    void end(0)
  }
  process.on('SIGTERM', endAsAsked)
  process.on('SIGINT', endAsAsked)
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
