/** Mounts Bull Board, which shows the queues: jobs by state, their progress, log lines and failure reasons. */
import { createBullBoard } from '@bull-board/api'
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter'
import { KoaAdapter } from '@bull-board/koa'
import type { Queue } from 'bullmq'
import type { Middleware } from 'koa'
import type { Logger } from '../../telemetry/logger.ts'
import { HOME, QUEUES } from './layout.ts'
import { boardPolicy } from './protection.ts'

/**
 * The allowed actions, which only change when a job runs. Adding, copying or editing a job is refused: a copy of a running checkout would
 * run as a first attempt, and the second shipment would break Shipping. Removing a job would leave its checkout without one.
 */
const allowed = new Set([
  '/api/queues/:queueName/:jobId/retry',
  '/api/queues/:queueName/retry/:queueStatus',
  '/api/queues/:queueName/:jobId/promote',
  '/api/queues/:queueName/promote',
  '/api/queues/:queueName/pause',
  '/api/queues/:queueName/resume',
])

/** The part of the path before queue and action. */
const API = `${QUEUES}/api/queues/`

const refused = {
  allow: false,
  status: 403,
  message: 'This action is not allowed here; the allowed ones are retry, promote, pause and resume.',
} as const

/** Times in the log's format. */
const time = { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' } as const

/**
 * Logs each change with `ctx.state.operator`. The caller must authenticate requests.
 * @param queues in the order in which they are shown
 * @param isReadOnly shows no button; the caller must refuse what changes something
 */
export function queueBoard(queues: readonly Queue[], logger: Logger, { isReadOnly = false } = {}): Middleware {
  const adapter = new KoaAdapter().setBasePath(QUEUES)
  createBullBoard({
    queues: queues.map((queue) => new BullMQAdapter(queue, { readOnlyMode: isReadOnly })),
    serverAdapter: adapter,
    options: {
      uiConfig: {
        boardTitle: 'Order service',
        hideDocsLink: true,
        jobDetails: { defaultTab: 'Logs' },
        dateFormats: { short: time, common: { day: 'numeric', month: 'short', ...time } },
        miscLinks: [
          { text: 'Overview', url: HOME },
          { text: 'Sign out', url: `${HOME}/sign-out` },
        ],
      },
      handlerHooks: { before: ({ method, route }) => (method === 'get' || allowed.has(route) ? undefined : refused) },
    },
  })
  const board: Middleware = adapter.registerPlugin()
  return async (ctx, next) => {
    const route = ctx._matchedRoute
    ctx.disableBodyParser = true // no allowed action has a body, and a malformed one would be a 500
    ctx.set('Content-Security-Policy', boardPolicy)
    await board(ctx, next)
    if (ctx.status === 501) ctx.status = 405 // what its router answers for unknown methods
    // A success means that queue and job exist, so the path contains nothing that the caller made up.
    if (!/^(GET|HEAD|OPTIONS)$/.test(ctx.method) && ctx.status < 300) {
      const { operator, requestId } = ctx.state
      logger.info({ operator, action: ctx.path.replace(API, ''), requestId }, 'queue changed by an operator')
    }
    ctx._matchedRoute = route // its router sets its own route
  }
}
