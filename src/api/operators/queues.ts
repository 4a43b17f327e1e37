/** Mounts Bull Board, which shows the queues: jobs by state, their progress, log lines and failure reasons. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { createBullBoard } from '@bull-board/api'
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter'
import { KoaAdapter } from '@bull-board/koa'
import type { Job, Queue } from 'bullmq'
import type { Context, Middleware } from 'koa'
import type { Verb } from '../../causes.ts'
import type { Actions } from '../../operators/action.ts'
import { maskText } from '../../operators/mask.ts'
import { operatorOf } from './request-fields.ts'
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
 * Each change is recorded before it is carried out. The caller must authenticate requests.
 * @param queues in the order in which they are shown
 * @param isReadOnly shows no button; the caller must refuse what changes something
 */
export function queueBoard(
  queues: readonly Queue[],
  { actions, isReadOnly }: { actions: Pick<Actions, 'recordAround'>; isReadOnly: boolean },
): Middleware {
  const names = new Set(queues.map(({ name }) => name))
  const adapter = new KoaAdapter().setBasePath(QUEUES)
  createBullBoard({
    queues: queues.map((queue) => (isReadOnly ? new ReadOnlyQueue(queue, { readOnlyMode: true }) : new BullMQAdapter(queue))),
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
      handlerHooks: {
        before({ method, route, request }) {
          if (method === 'get') return undefined
          if (!allowed.has(route)) return refused
          // A path that `changeOf` does not know would be a change without its record.
          return inRecord.getStore() || !names.has(String(request.params.queueName)) ? undefined : refused
        },
      },
    },
  })
  const board: Middleware = adapter.registerPlugin()
  return async (ctx, next) => {
    const route = ctx._matchedRoute
    ctx.disableBodyParser = true // no allowed action has a body, and a malformed one would be a 500
    ctx.set('Content-Security-Policy', boardPolicy)
    const change = changeOf(ctx)
    if (change && names.has(change.selection.queue)) await recorded(ctx, { ...change, actions }, () => board(ctx, next))
    else await board(ctx, next)
    if (ctx.status === 501) ctx.status = 405 // what its router answers for unknown methods
    ctx._matchedRoute = route // its router sets its own route
  }
}

/** Without stack traces and emails, which operators that may not act do not see on the other pages either. */
class ReadOnlyQueue extends BullMQAdapter {
  override async getJob(id: string): Promise<Job | undefined> {
    const job = await super.getJob(id)
    return job && masked(job)
  }
  override async getJobs(...asked: Parameters<BullMQAdapter['getJobs']>): Promise<Job[]> {
    return (await super.getJobs(...asked)).map(masked)
  }
  override async getJobLogs(id: string): Promise<string[]> {
    return (await super.getJobLogs(id)).map(maskText)
  }
}

function masked(job: Job): Job {
  job.stacktrace = []
  if (job.failedReason) job.failedReason = maskText(job.failedReason)
  return job
}

/** Set while a change that has been recorded is carried out. */
const inRecord = new AsyncLocalStorage<true>()

interface Change {
  verb: Verb
  selection: { queue: string; job?: string; jobs?: string }
}

/** The allowed actions, by the paths of Bull Board. undefined for all that changes nothing or is refused. */
function changeOf({ method, path }: Context): Change | undefined {
  if (method !== 'PUT' && method !== 'POST') return undefined
  const [queue = '', ...rest] = path.startsWith(API) ? path.slice(API.length).split('/').map(decodeURIComponent) : []
  const [first = '', second = ''] = rest
  if (rest.length === 1 && (first === 'pause' || first === 'resume')) return { verb: `${first}-queue`, selection: { queue } }
  if (rest.length === 1 && first === 'promote') return { verb: 'promote-jobs', selection: { queue, jobs: 'delayed' } }
  if (rest.length < 2) return undefined
  if (rest.length === 2 && first === 'retry') return { verb: 'retry-jobs', selection: { queue, jobs: second } }
  if (second === 'promote') return { verb: 'promote-jobs', selection: { queue, job: first } }
  return second === 'retry' ? { verb: 'retry-jobs', selection: { queue, job: first } } : undefined
}

/** No action without its record: where it cannot be written, nothing is changed. */
async function recorded(
  ctx: Context,
  { verb, selection, actions }: Change & { actions: Pick<Actions, 'recordAround'> },
  run: () => Promise<unknown>,
): Promise<void> {
  await actions.recordAround({ verb, selection, reason: 'with Bull Board', ...operatorOf(ctx) }, async () => {
    await inRecord.run(true, run)
    return ctx.status < 300 ? { result: 'changed', detail: 'done' } : { result: 'failed', detail: `the board answered ${ctx.status}` }
  })
}
