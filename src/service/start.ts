/** Starts what is named and ends it again: the one place that makes things. Any of the processes may live in one Node process, or each in its own. */
import type { Server } from 'node:http'
import { createApp, createOpsApp, type Service as CustomerService } from '../api/app.ts'
import type { OperatorDeps } from '../api/operators/routes.ts'
import type { Check } from '../api/ops.ts'
import { close, listen, portOf } from '../api/server.ts'
import type { Config } from '../config.ts'
import { createReplies } from '../queues/replies.ts'
import type { Logger } from '../telemetry/logger.ts'
import { createMetrics } from '../telemetry/metrics.ts'
import { startBridge } from './bridge.ts'
import { connect, type Role } from './connect.ts'
import { watchGauges } from './gauges.ts'
import { customerService, operatorDeps } from './web.ts'
import { createWatchdog, watch } from './watchdog.ts'
import { startWorker } from './worker.ts'

export interface RunningService {
  /** Where it listens: customers' routes with `web`, health and metrics with the others. undefined where nothing listens. */
  port: number | undefined
  /** Resolves when all components are there. Rejects where it was stopped before, or at a fault that no waiting mends. */
  started: Promise<void>
  /** Resolves, with what to tell, where a component stands still although it was built anew: only another process can help. */
  stalled: Promise<string>
  /** Takes no more work, finishes what runs, closes everything; within 15 s. */
  stop(): Promise<void>
}

/** Of the 15 s that a process has to end in: then the requests that still run are cut off. The truth is in PostgreSQL. */
const REQUESTS_END_MS = 9000

/** Listens at once, so that liveness can be seen; everything else follows as PostgreSQL and Redis come up. */
export async function startService(config: Config, roles: ReadonlySet<Role>, logger: Logger): Promise<RunningService> {
  const metrics = createMetrics()
  const stopping = new AbortController()
  const closers: (() => Promise<unknown>)[] = []
  const checks: Check[] = []
  let customers: CustomerService | undefined
  let operators: OperatorDeps | undefined
  const stalled = Promise.withResolvers<string>()
  let isStarted = false

  const { HOST: host, PORT, METRICS_PORT } = config
  const ops = { logger, metrics, checks, stopping: () => stopping.signal.aborted }
  const isWeb = roles.has('web')
  const servesMetrics = METRICS_PORT === undefined || METRICS_PORT === PORT
  const servers: Server[] = []
  if (isWeb) {
    const app = createApp({ ...ops, servesMetrics, config, service: () => customers, operators: () => operators })
    servers.push(await listen(app, { host, port: PORT }))
  }
  if (METRICS_PORT !== undefined && !(isWeb && servesMetrics)) {
    servers.push(
      await listen(
        createOpsApp(ops, () => isStarted),
        { host, port: METRICS_PORT },
      ),
    )
  }
  const port = servers[0] && portOf(servers[0])

  const starting = (async () => {
    const base = await connect({ config, logger, metrics, roles, checks, closers, signal: stopping.signal })
    watchGauges(base)
    base.relays?.start()
    const replies = roles.has('web') ? await createReplies(base.subscriber, config.REDIS_PREFIX) : undefined
    if (replies) closers.push(async () => replies.close())
    if (roles.has('worker')) await startWorker(base, replies, checks)
    if (roles.has('web')) operators = operatorDeps(base)
    // Last, and so the first to end: it brings work to the others.
    if (roles.has('bridge')) startBridge(base, checks)
    if (replies) customers = customerService(base, replies, roles.has('worker'))
    isStarted = true
    for (const component of base.watched) {
      const watchdog = createWatchdog(component, {
        limitMs: config.WATCHDOG_MS,
        now: () => performance.now(),
        logger,
        metrics,
        giveUp: stalled.resolve,
      })
      checks.push(watchdog.check)
      void watch(watchdog, stopping.signal)
    }
    logger.info({ roles: [...roles], port }, 'started')
  })()
  starting.catch(() => {}) // whoever started it decides what follows

  return {
    port,
    started: starting,
    stalled: stalled.promise,
    async stop() {
      stopping.abort()
      await Promise.all(servers.map((server) => close(server, { withinMs: REQUESTS_END_MS })))
      await starting.catch(() => {})
      for (const closer of closers.toReversed()) await closer().catch((error) => logger.warn({ err: error }, 'a component did not close'))
    },
  }
}
