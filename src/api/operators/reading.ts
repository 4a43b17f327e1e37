/** What pages that read PostgreSQL share: refusals instead of errors, and numbers in paths. */
import { BadQuery, whole } from '../../operators/order-query.ts'
import type { Pool } from '../../db/pool.ts'
import { isFaultOfPostgres } from '../../db/pool.ts'
import { MAX_INTEGER } from '../../model.ts'
import { Refusal, RETRY_SOON } from '../refusal.ts'

/**
 * Reads for a page, on the pages' own connections.
 * @throws Refusal 400 for a query that cannot be made, 503 where PostgreSQL is away or takes longer than its limit
 */
export async function reading<Out>(connect: () => Promise<Pool>, read: (pool: Pool) => Promise<Out>): Promise<Out> {
  try {
    return await read(await connect())
  } catch (error) {
    if (error instanceof BadQuery) throw new Refusal(400, error.message)
    if (error instanceof Refusal || isFaultOfPostgres(error)) throw error
    throw new Refusal(503, 'PostgreSQL does not answer in time', { headers: RETRY_SOON, cause: error })
  }
}

/** @returns the number in a path. @throws Refusal 404 where it is none, 400 where it is out of range */
export function idInPath(what: string, text: string, most = MAX_INTEGER): number {
  if (!/^\d+$/.test(text)) throw new Refusal(404, `There is no ${what} ${JSON.stringify(text.slice(0, 40))}`)
  try {
    return whole(`The ${what}’s id`, text, { least: 0, most })!
  } catch (error) {
    throw new Refusal(400, (error as Error).message)
  }
}

/** The first value of each parameter. */
export function parameters(query: NodeJS.Dict<string | string[]>): Record<string, string> {
  const entries = Object.entries(query).flatMap(([name, value]) => {
    const first = Array.isArray(value) ? value[0] : value
    return first === undefined ? [] : [[name, first] as const]
  })
  return Object.fromEntries(entries)
}
