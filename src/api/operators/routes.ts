/** Routes of the operators' pages below /order/admin, public ones and those that need a session. */
import type { KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Router } from '@koa/router'
import type { Queue } from 'bullmq'
import type { Middleware } from 'koa'
import type { Pool } from '../../db/pool.ts'
import type { Overviews } from '../../operators/overview.ts'
import type { Logger } from '../../telemetry/logger.ts'
import type { ReadToken } from '../auth.ts'
import { Refusal, RETRY_SOON } from '../refusal.ts'
import { HOME, QUEUES, refusalPages } from './layout.ts'
import { decodableOnly, pageHeaders, sameOriginOnly } from './protection.ts'
import { operatorsOnly } from './session.ts'
import { readForm, showSignIn, showSignOut, signIn, type SignInDeps, signOut } from './sign-in.ts'

export interface OperatorDeps extends SignInDeps {
  /** The pages' own connections: two, and no statement takes longer than 2 s. */
  read(): Promise<Pool>
  overviews: Overviews
  /** The queues that are shown. */
  queues: readonly Queue[]
}

/** Open to everybody: they hold no data. */
const files = ['style.css', 'pages.js'].map((name) => ({ name, text: readFileSync(new URL(name, import.meta.url), 'utf8') }))

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
  const open = [pageHeaders(), refusalPages(), decodableOnly, sameOriginOnly()]
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

  router.get('/', ...guarded, (ctx) => {
    ctx.status = 303
    ctx.redirect(QUEUES)
  })
  let board: Middleware | undefined
  router.all('/queues{/*path}', ...guarded, async (ctx, next) => {
    const { queues } = requireDeps()
    // Loaded at the first request: few processes ever show it, and it took a tenth of the CPU of each start.
    const { queueBoard } = await import('./queues.ts')
    board ??= queueBoard(queues, logger)
    return board(ctx, next)
  })
  return router
}
