/** The places of a pool, with an end to the wait for one: slonik's own wait has none. */

/** Thrown to whoever got no connection: nothing of what was to be done has reached PostgreSQL. */
export class PoolExhausted extends Error {
  override name = 'PoolExhausted'
}

/** For a watchdog's look: with all connections in use there is much to do, and none of them is dead. @throws any other error */
export function unlessExhausted(error: unknown): undefined {
  if (!(error instanceof PoolExhausted)) throw error
}

/**
 * At most `count` at a time. Whoever finds all places taken waits for `withinMs` at the most; where none was given or left for so long,
 * not at all: calls that wait behind each other in a batcher would otherwise wait once for each batch.
 * @returns a function that runs in a place. @throws PoolExhausted; what it ran throws
 */
export function places(count: number, withinMs: number): <T>(run: () => Promise<T>) => Promise<T> {
  let free = count
  let movedAt = 0
  const waiting = new Set<() => void>()

  function enter(): Promise<void> | undefined {
    const now = performance.now()
    if (free > 0) {
      free -= 1
      movedAt = now
      return undefined
    }
    if (now - movedAt >= withinMs) throw exhausted()
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

  function leave(): void {
    movedAt = performance.now()
    const [next] = waiting
    if (next === undefined) {
      free += 1
      return
    }
    waiting.delete(next)
    next()
  }

  const exhausted = () => new PoolExhausted(`all ${count} connections to PostgreSQL are in use, and none became free within ${withinMs} ms`)

  return async (run) => {
    await enter()
    try {
      return await run()
    } finally {
      leave()
    }
  }
}
