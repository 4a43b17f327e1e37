/** Numbers for calls to Catalog: never used twice, and drawn beforehand, so that a process knows its calls also where an answer is lost. */
import { sql } from 'slonik'
import { z } from 'zod'
import type { Pool } from './pool.ts'

/** As many as the sequence goes on by each time. */
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
