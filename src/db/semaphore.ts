/** Bounds the wait for a connection of the pool. slonik's own wait has no end. */

/** No connection was free in time. Nothing has reached PostgreSQL. */
export class PoolExhausted extends Error {
  override name = 'PoolExhausted'
}

/** For the watchdog's checks: while all connections are in use there is much to do, and none of them is dead. @throws any other error */
export function unlessExhausted(error: unknown): undefined {
  if (!(error instanceof PoolExhausted)) throw error
}

/**
 * Runs at most `permits` at a time; others wait for `withinMs` at most. Where no permit was acquired or released for `withinMs`, they do
 * not wait at all: calls that queue behind each other in a batcher would otherwise wait once for each batch.
 * @returns a function that runs its argument under a permit. @throws PoolExhausted; what the argument throws
 */
export function semaphore(permits: number, withinMs: number): <T>(run: () => Promise<T>) => Promise<T> {
  let free = permits
  let changedAt = 0
  const waiting = new Set<() => void>()

  function acquire(): Promise<void> | undefined {
    const now = performance.now()
    if (free > 0) {
      free -= 1
      changedAt = now
      return undefined
    }
    if (now - changedAt >= withinMs) throw exhausted()
    return new Promise((resolve, reject) => {
      const admit = () => {
        clearTimeout(timer)
        resolve()
      }
      const timer = setTimeout(() => {
        waiting.delete(admit)
        reject(exhausted())
      }, withinMs)
      waiting.add(admit)
    })
  }

  function release(): void {
    changedAt = performance.now()
    const [next] = waiting
    if (next === undefined) {
      free += 1
      return
    }
    waiting.delete(next)
    next()
  }

  const exhausted = () =>
    new PoolExhausted(`all ${permits} connections to PostgreSQL are in use, and none became free within ${withinMs} ms`)

  return async (run) => {
    await acquire()
    try {
      return await run()
    } finally {
      release()
    }
  }
}
