/** Tests wait for conditions, never for time. */
import { setTimeout as sleep } from 'node:timers/promises'

/** Asks until the answer satisfies. @throws with the last answer after `withinMs`, which is a failure and not a measure */
export async function until<T>(ask: () => T | Promise<T>, satisfies: (answer: T) => boolean, withinMs = 30_000): Promise<T> {
  const end = Date.now() + withinMs
  for (;;) {
    const answer = await ask()
    if (satisfies(answer)) return answer
    if (Date.now() > end) throw new Error(`not in ${withinMs} ms: ${JSON.stringify(answer)}`)
    await sleep(20)
  }
}
