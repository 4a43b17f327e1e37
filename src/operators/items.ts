/** The items of a cause: what waits because of it. */
import type { Pool } from '../db/pool.ts'
import type { Cause, ItemKind, ServiceName } from '../causes.ts'
import type { Item } from './orders.ts'

export interface ItemQuery {
  cause: Cause
  service: ServiceName | null
  /** The `next` of the page before. */
  after?: string | undefined
  limit: number
}

export interface ItemPage {
  items: Item[]
  kind: ItemKind
  /** For the next page; null on the last. */
  next: string | null
}

/** The one that has waited the longest comes first. */
export async function listItems(_pool: Pool, _query: ItemQuery): Promise<ItemPage> {
  return { items: [], kind: 'checkout', next: null }
}
