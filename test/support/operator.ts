/** An operator's program: asks the operators' pages for JSON with a token, and acts through the same routes. */
import type { Cause, ServiceName, Verb } from '../../src/causes.ts'
import { adminEmail, supportEmail } from './downstreams/auth.ts'
import type { Shop } from './shop.ts'
import { until } from './until.ts'

/** A problem as the first page's JSON has it. */
export interface ShownProblem {
  cause: Cause
  service: ServiceName | null
  sentence: string
  next: string
  evidence: string
  counts: { n: number; isMore: boolean; of: string }[]
}

export interface Reply {
  status: number
  text: string
  // oxlint-disable-next-line typescript/no-explicit-any -- whatever the page says; a test asserts on it
  body: any
  headers: Headers
}

export interface Operator {
  token: string
  ask(path: string, init?: RequestInit): Promise<Reply>
  /** The same path as a browser gets it. */
  html(path: string): Promise<string>
  /** What the first page shows now; none while the page does not answer. */
  problems(): Promise<ShownProblem[] | undefined>
  /** Acts on items, on all of a cause, or on a queue. @returns the answer to the form, redirects not followed */
  act(verb: Verb, fields: Record<string, string | readonly string[]>, reason?: string): Promise<Reply>
}

const HOME = '/order/admin'

/** @param at another process of the shop */
export function operatorOf(
  shop: Pick<Shop, 'auth' | 'url'>,
  { role = 'admin', at = shop.url }: { role?: string; at?: string } = {},
): Operator {
  const token = shop.auth.token({ sub: role === 'admin' ? adminEmail : supportEmail, role, expiresInS: 3600 })
  const headers = { authorization: `Bearer ${token}` }
  async function ask(path: string, init: RequestInit = {}): Promise<Reply> {
    const answer = await fetch(at + path, {
      redirect: 'manual',
      ...init,
      headers: { accept: 'application/json', ...headers, ...(init.headers as Record<string, string>) },
      signal: AbortSignal.timeout(10_000),
    })
    const text = await answer.text()
    const isJson = answer.headers.get('content-type')?.includes('json') ?? false
    return { status: answer.status, headers: answer.headers, text, body: isJson ? JSON.parse(text) : undefined }
  }
  return {
    token,
    ask,
    html: async (path) => (await ask(path, { headers: { accept: 'text/html' } })).text,
    async problems() {
      const { body } = await ask(HOME).catch(() => ({ body: undefined }))
      return body?.problems
    },
    act(verb, fields, reason = 'A test acts') {
      const form = new URLSearchParams({ verb, reason })
      for (const [name, values] of Object.entries(fields)) for (const value of [values].flat() as string[]) form.append(name, value)
      return ask(`${HOME}/actions`, { method: 'POST', body: form })
    },
  }
}

const isShown = (problems: readonly ShownProblem[] | undefined, cause: Cause, service?: ServiceName) =>
  problems?.find((problem) => problem.cause === cause && (service === undefined || problem.service === service))

/** Until the first page shows this cause. @returns the problem, and the seconds that it took */
export async function shown(operator: Operator, cause: Cause, service?: ServiceName, withinMs = 10_000) {
  const since = performance.now()
  let last: ShownProblem[] | undefined
  const problem = await until(async () => isShown((last = await operator.problems()), cause, service), Boolean, withinMs).catch(() => {
    throw new Error(`${cause} is not shown after ${withinMs} ms, but ${JSON.stringify(last)}`)
  })
  return { problem: problem!, seconds: secondsSince(since) }
}

/** Until the first page shows this cause no more. @returns the seconds that it took */
export async function cleared(operator: Operator, cause: Cause, service?: ServiceName, withinMs = 10_000): Promise<number> {
  const since = performance.now()
  let last: ShownProblem[] | undefined
  const isGone = async () => (last = await operator.problems()) !== undefined && !isShown(last, cause, service)
  await until(isGone, Boolean, withinMs).catch(() => {
    throw new Error(`${cause} is still shown after ${withinMs} ms: ${JSON.stringify(isShown(last, cause, service))}`)
  })
  return secondsSince(since)
}

export const secondsSince = (since: number): number => Math.round((performance.now() - since) / 100) / 10
