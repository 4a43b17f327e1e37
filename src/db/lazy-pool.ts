/** A pool that connects at its first use, for readers that must not take connections from customers. */
import { connectPool, type Pool, type PoolOptions } from './pool.ts'

export interface LazyPool {
  /** Connects at the first call, and again after a failure. Idle connections end after a minute. @throws while PostgreSQL is away */
  connected(): Promise<Pool>
  end(): Promise<void>
}

export function lazyPool(dsn: string, options: PoolOptions): LazyPool {
  let connecting: Promise<Pool> | undefined
  return {
    connected() {
      connecting ??= connectPool(dsn, options)
      return connecting.catch((error) => {
        connecting = undefined
        throw error
      })
    },
    async end() {
      await (await connecting)?.end()
    },
  }
}
