/** Ids for calls to Catalog. No id is used twice. A process takes them beforehand, so that it knows its calls where an answer is lost. */
import { sql } from 'slonik'
import { z } from 'zod'
import type { Pool } from './pool.ts'

/** The increment of the sequence. */
const BLOCK = 1000
const blockRow = z.object({ first: z.int() })

/** @returns the next number; waits for PostgreSQL once in a thousand times */
export type CallIds = () => Promise<number>

export function createCallIds(pool: Pool): CallIds {
  let next = 0
  let end = 0
  let drawing: Promise<void> | undefined

  async function draw(): Promise<void> {
    const { first } = await pool.one(sql.prepared('draw-call-ids', blockRow)`select nextval('order_service.call_ids') as first`)
    next = first
    end = first + BLOCK
  }

  return async () => {
    while (next === end) {
      drawing ??= draw().finally(() => (drawing = undefined))
      await drawing
    }
    next += 1
    return next - 1
  }
}
