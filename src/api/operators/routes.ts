/** Routes of the operators' pages below /order/admin, public ones and those that need a session. */
import type { KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Router } from '@koa/router'
import type { Queue } from 'bullmq'
import type { Middleware } from 'koa'
import type { Pool } from '../../db/pool.ts'
import type { Logger } from '../../telemetry/logger.ts'
import type { ReadToken } from '../auth.ts'
import { Refusal, RETRY_SOON } from '../refusal.ts'
import { type ActionDeps, addActionPages } from './actions.ts'
import { addDeadLetterPages } from './dead-letters.ts'
import type { Html } from './html.ts'
import { addInventoryPages, type InventoryPageDeps } from './inventory.ts'
import { HOME, type OperatorRole, refusalPages, respond, roleOf, SCRIPT, styles } from './layout.ts'
import type { OrderPageDeps } from './order.ts'
import { addOrderPages } from './orders.ts'
import { addOverviewPage } from './overview.ts'
import { addProblemPages, type ProblemDeps } from './problems.ts'
import { decodableOnly, pageHeaders, sameOriginOnly } from './protection.ts'
import { adminsOnly, operatorsOnly } from './session.ts'
import { readForm, showSignIn, showSignOut, signIn, type SignInDeps, signOut } from './sign-in.ts'

export interface OperatorDeps extends SignInDeps, ProblemDeps, OrderPageDeps, InventoryPageDeps, ActionDeps {
  /** The pages' own connections: two, and no statement takes longer than 2 s. */
  read(): Promise<Pool>
  /** The queues that are shown. */
  queues: readonly Queue[]
}

/** Open to everybody: they hold no data. */
const files = [...styles, SCRIPT].map((name) => ({ name, text: readFileSync(new URL(name, import.meta.url), 'utf8') }))

/** @param deps undefined during start-up, when operators get a 503 */
export function operatorRoutes(
  deps: () => OperatorDeps | undefined,
  { readToken, jwtKey, logger }: { readToken: ReadToken; jwtKey: KeyObject; logger: Logger },
): Router {
  const requireDeps = (): OperatorDeps => {
    const ready = deps()
    if (!ready) throw new Refusal(503, 'The service is starting', { headers: RETRY_SOON })
    return ready
  }
  // Given to each route, because `router.use` would replace the route's pattern with its own.
  const open = [pageHeaders(), refusalPages(logger), decodableOnly, sameOriginOnly()]
  const guarded = [...open, operatorsOnly(readToken, jwtKey)]

  const router = new Router({ prefix: HOME })
  for (const { name, text } of files) {
    router.get(`/${name}`, ...open, (ctx) => {
      ctx.type = name
      ctx.body = text
    })
  }
  router.get('/sign-in', ...open, showSignIn)
  router.post('/sign-in', ...open, readForm, signIn(requireDeps, readToken, logger))
  router.get('/sign-out', ...guarded, showSignOut)
  router.post('/sign-out', ...open, signOut)

  addOverviewPage(router, guarded, requireDeps)
  addProblemPages(router, guarded, requireDeps)
  addOrderPages(router, guarded, requireDeps)
  addInventoryPages(router, guarded, requireDeps)
  addActionPages(router, guarded, requireDeps)
  addDeadLetterPages(router, guarded, requireDeps)
  addRunbook(router, guarded)
  addQueues(router, guarded, requireDeps)
  // The last: routes run in the order in which they were added.
  router.get('/{*path}', ...guarded, () => {
    throw new Refusal(404, 'There is no page at this address')
  })
  return router
}

/** Its text and its library are loaded at the first request, as are Bull Board's below: few processes ever show them. */
function addRunbook(router: Router, guarded: readonly Middleware[]): void {
  let runbook: Promise<Html> | undefined
  router.get('/runbook', ...guarded, async (ctx) => {
    runbook ??= import('./runbook.ts').then(({ readRunbook }) => readRunbook())
    const content = await runbook.catch((error: unknown) => {
      runbook = undefined
      throw new Refusal(404, 'docs/runbook.md was not deployed beside src', { cause: error })
    })
    respond(ctx, { title: 'Runbook', data: { html: String(content) }, content: () => content })
  })
}

/** Bull Board took a tenth of the CPU of each start. */
function addQueues(router: Router, guarded: readonly Middleware[], requireDeps: () => OperatorDeps): void {
  const boards = new Map<OperatorRole, Middleware>()
  const changes: Middleware = (ctx, next) => (/^(GET|HEAD|OPTIONS)$/.test(ctx.method) ? next() : adminsOnly(ctx, next))
  router.all('/queues{/*path}', ...guarded, changes, async (ctx) => {
    const { queues, actions } = requireDeps()
    const { queueBoard } = await import('./queues.ts')
    const role = roleOf(ctx)
    const board = boards.get(role) ?? queueBoard(queues, { actions, isReadOnly: role !== 'admin' })
    boards.set(role, board)
    return board(ctx, async () => {}) // what the board does not have, no other route has
  })
}
