/** Calls that come together travel together: what pays for the queue on the hot path (docs/decisions/0002). */

/** After a batch of more calls than this there is a crowd, and a little patience makes larger batches. */
const CROWD = 2
/** Where nothing came for so long, nothing more is on its way: those that wait would wait in vain. */
const QUIET_MS = 2

/**
 * Collects calls into batches. A lone call leaves at the end of its tick. While there is a crowd, a batch leaves when nothing came for
 * 2 ms, `enough` wait, or the last one left `paceMs` ago: the price of a statement is shared by fifteen checkouts and not by four, and
 * nobody waits for others that do not come.
 * @param flush gets at most `max` items and answers as many results, in the same order. An element that is an `Error` rejects that item alone.
 * @returns a function that resolves to its item's result, or rejects with what `flush` threw
 */
export function batcher<In, Out>(
  flush: (batch: In[]) => Promise<(Out | Error)[]>,
  { max = 128, inflight = 2, paceMs = 14, enough = 32 } = {},
): (item: In) => Promise<Out> {
  let waiting: { item: In; resolve: (out: Out) => void; reject: (error: unknown) => void }[] = []
  let flying = 0
  let planned = false
  let last = { size: 0, at: 0 }
  let arrivedAt = 0

  function plan(): void {
    if (planned || waiting.length === 0 || flying >= inflight) return
    planned = true
    gather()
  }

  function gather(): void {
    const isCrowd = last.size > CROWD && waiting.length < enough
    const patience = isCrowd ? Math.min(last.at + paceMs, arrivedAt + QUIET_MS) - performance.now() : 0
    if (patience >= 1) setTimeout(gather, patience)
    else setImmediate(depart)
  }

  function depart(): void {
    planned = false
    const batch = waiting.slice(0, max)
    waiting = waiting.slice(max)
    last = { size: batch.length, at: performance.now() }
    flying += 1
    void fly(batch)
    plan()
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
