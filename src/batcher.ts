/** Calls that come together travel together: what pays for the queue on the hot path (docs/decisions/0002). */

/**
 * Collects calls into batches. A lone call leaves at the end of its tick; calls that come while `inflight` flushes are under way
 * travel together in the next one.
 * @param flush gets at most `max` items and answers as many results, in the same order. An element that is an `Error` rejects that item alone.
 * @returns a function that resolves to its item's result, or rejects with what `flush` threw
 */
export function batcher<In, Out>(
  flush: (batch: In[]) => Promise<(Out | Error)[]>,
  { max = 128, inflight = 2 } = {},
): (item: In) => Promise<Out> {
  let waiting: { item: In; resolve: (out: Out) => void; reject: (error: unknown) => void }[] = []
  let flying = 0
  let planned = false

  function depart(): void {
    planned = false
    while (waiting.length > 0 && flying < inflight) {
      const batch = waiting.slice(0, max)
      waiting = waiting.slice(max)
      flying += 1
      void fly(batch)
    }
  }

  async function fly(batch: typeof waiting): Promise<void> {
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
      flying -= 1
      depart()
    }
  }

  return (item) =>
    new Promise<Out>((resolve, reject) => {
      waiting.push({ item, resolve, reject })
      if (!planned && flying < inflight) {
        planned = true
        setImmediate(depart)
      }
    })
}
