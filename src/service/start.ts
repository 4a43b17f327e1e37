/** Starts the named roles and stops them again. The roles may share one Node process, or run in one each. */
import type { Server } from 'node:http'
import { createApp, createOpsApp, type Service as CustomerService } from '../api/app.ts'
import type { OperatorDeps } from '../api/operators/routes.ts'
import { type Check, readComponents } from '../api/ops.ts'
import { close, listen, portOf } from '../api/server.ts'
import type { Config } from '../config.ts'
import { createReplies } from '../queues/replies.ts'
import type { Logger } from '../telemetry/logger.ts'
import { createMetrics } from '../telemetry/metrics.ts'
import { startBridge } from './bridge.ts'
import { connect, type Role } from './connect.ts'
import { startReports } from './report.ts'
import { watchGauges } from './gauges.ts'
import { customerService, operatorDeps } from './web.ts'
import { createWatchdog, watch } from './watchdog.ts'
import { startWorker } from './worker.ts'

export interface RunningService {
  /** Serves customers with the role `web`, and health and metrics with the others. undefined where nothing listens. */
  port: number | undefined
  /** Resolves when all components run. Rejects if it was stopped before, or at an error that waiting cannot fix. */
  started: Promise<void>
  /** Resolves, with the reason, when a component is stalled although it was restarted: only a new process can help. */
  stalled: Promise<string>
  /** Accepts no more work, finishes what runs and closes everything, within 15 s. */
  stop(): Promise<void>
}

/** Part of the 15 s in which a process has to end. Requests that still run are cut off then; their outcome is in PostgreSQL. */
const REQUESTS_END_MS = 9000

/** Listens at once, for liveness probes. Everything else starts when PostgreSQL and Redis can be used. */
export async function startService(config: Config, roles: ReadonlySet<Role>, logger: Logger): Promise<RunningService> {
  const metrics = createMetrics()
  const stopping = new AbortController()
  const closers: (() => Promise<unknown>)[] = []
  const checks: Check[] = []
  let customers: CustomerService | undefined
  let operators: OperatorDeps | undefined
  const stalled = Promise.withResolvers<string>()
  let isStarted = false

  metrics.refreshed.push(async () => {
    for (const { component, state } of await readComponents(checks)) {
      metrics.componentReady.set({ component: component.name }, state === 'ok' ? 1 : 0)
    }
  })

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
    // Started last, and so stopped first: it brings work to the others.
    if (roles.has('bridge')) startBridge(base, checks)
    if (replies) customers = customerService(base, replies, roles.has('worker'))
    isStarted = true
    for (const component of base.watched) {
      const watchdog = createWatchdog(component, {
        limitMs: config.WATCHDOG_MS,
        now: () => performance.now(),
        logger,
        metrics,
        stopProcess: stalled.resolve,
      })
      checks.push(watchdog.check)
      void watch(watchdog, stopping.signal)
    }
    closers.push(startReports(base, roles, checks))
    logger.info({ roles: [...roles], port }, 'started')
  })()
  starting.catch(() => {}) // the caller handles `started`

  return {
    port,
    started: starting,
    stalled: stalled.promise,
    async stop() {
      stopping.abort()
      await Promise.all(servers.map((server) => close(server, { withinMs: REQUESTS_END_MS })))
      await starting.catch(() => {})
      for (const closer of closers.toReversed())
        await closer().catch((error) => logger.warn({ err: error }, 'component could not be closed'))
    },
  }
}
