/** Gathers calls that come at the same time into batches, which makes the queue affordable on the hot path (docs/decisions/0002). */

/** After a batch of more calls than this, waiting a little makes larger batches. */
const CROWD = 2
/** If nothing came for this long, nothing more is expected. */
const QUIET_MS = 2

/**
 * Collects calls into batches. A lone call is flushed at the end of its tick. In a crowd, a batch is flushed when nothing came for 2 ms,
 * `enough` calls wait, or the last flush was `paceMs` ago: then fifteen checkouts share a statement instead of four.
 * @param flush gets at most `max` items and returns as many results, in the same order. A result that is an `Error` rejects its item alone.
 * @returns a function that resolves to its item's result, or rejects with what `flush` threw
 */
export function batcher<In, Out>(
  flush: (batch: In[]) => Promise<(Out | Error)[]>,
  { max = 128, inflight = 2, paceMs = 14, enough = 32 } = {},
): (item: In) => Promise<Out> {
  let waiting: { item: In; resolve: (out: Out) => void; reject: (error: unknown) => void }[] = []
  let running = 0
  let isPlanned = false
  let last = { size: 0, at: 0 }
  let arrivedAt = 0

  function plan(): void {
    if (isPlanned || waiting.length === 0 || running >= inflight) return
    isPlanned = true
    gather()
  }

  function gather(): void {
    const isCrowd = last.size > CROWD && waiting.length < enough
    const patience = isCrowd ? Math.min(last.at + paceMs, arrivedAt + QUIET_MS) - performance.now() : 0
    if (patience >= 1) setTimeout(gather, patience)
    else setImmediate(startFlush)
  }

  function startFlush(): void {
    isPlanned = false
    const batch = waiting.slice(0, max)
    waiting = waiting.slice(max)
    last = { size: batch.length, at: performance.now() }
    running += 1
    void runFlush(batch)
    plan()
  }

  async function runFlush(batch: typeof waiting): Promise<void> {
    try {
      const results = await flush(batch.map((call) => call.item))
      batch.forEach((call, i) => {
        const result = results[i]
        if (result instanceof Error) call.reject(result)
        else call.resolve(result as Out)
      })
    } catch (error) {
      for (const call of batch) call.reject(error)
    } finally {
      running -= 1
      plan()
    }
  }

  return (item) =>
    new Promise<Out>((resolve, reject) => {
      waiting.push({ item, resolve, reject })
      arrivedAt = performance.now()
      plan()
    })
}
