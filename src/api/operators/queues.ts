/** The queues, as Bull Board shows them: jobs by state, their progress, log lines and reasons of failure. */
import { createBullBoard } from '@bull-board/api'
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter'
import { KoaAdapter } from '@bull-board/koa'
import type { Queue } from 'bullmq'
import type { Middleware } from 'koa'
import type { Logger } from '../../telemetry/logger.ts'
import { HOME, QUEUES } from './layout.ts'
import { boardPolicy } from './protection.ts'

/**
 * What may be done there: a job is a wake-up, and these wake or let sleep. To add, copy or edit one is more: a copy of a running checkout
 * is a first attempt like it, and Shipping would get a second shipment, which breaks it. To remove one that has not ended leaves its checkout without a driver.
 */
const allowed = new Set([
  '/api/queues/:queueName/:jobId/retry',
  '/api/queues/:queueName/retry/:queueStatus',
  '/api/queues/:queueName/:jobId/promote',
  '/api/queues/:queueName/promote',
  '/api/queues/:queueName/pause',
  '/api/queues/:queueName/resume',
])

/** Before the queue and what is done to it. */
const API = `${QUEUES}/api/queues/`

const refused = { allow: false, status: 403, message: 'Jobs are only woken here: retry, promote, pause, resume.' } as const

/** In numbers that can be found again in the log. */
const time = { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' } as const

/**
 * What is changed there is logged with `ctx.state.operator`.
 * @param queues in the order in which they are shown; guarding the board is its caller's business
 */
export function queueBoard(queues: readonly Queue[], logger: Logger): Middleware {
  const adapter = new KoaAdapter().setBasePath(QUEUES)
  createBullBoard({
    queues: queues.map((queue) => new BullMQAdapter(queue)),
    serverAdapter: adapter,
    options: {
      uiConfig: {
        boardTitle: 'Order service',
        hideDocsLink: true,
        jobDetails: { defaultTab: 'Logs' },
        dateFormats: { short: time, common: { day: 'numeric', month: 'short', ...time } },
        miscLinks: [{ text: 'Sign out', url: `${HOME}/sign-out` }],
      },
      handlerHooks: { before: ({ method, route }) => (method === 'get' || allowed.has(route) ? undefined : refused) },
    },
  })
  const board: Middleware = adapter.registerPlugin()
  return async (ctx, next) => {
    const route = ctx._matchedRoute
    ctx.disableBodyParser = true // nothing that is allowed has a body, and one that cannot be parsed would be a 500
    ctx.set('Content-Security-Policy', boardPolicy)
    await board(ctx, next)
    if (ctx.status === 501) ctx.status = 405 // its router's word for methods that nobody has
    // Done only where queue and job are ours: nothing that somebody made up is in the path.
    if (!/^(GET|HEAD|OPTIONS)$/.test(ctx.method) && ctx.status < 300) {
      const { operator, requestId } = ctx.state
      logger.info({ operator, action: ctx.path.replace(API, ''), requestId }, 'an operator changed a queue')
    }
    ctx._matchedRoute = route // its own routes lie below ours
  }
}
