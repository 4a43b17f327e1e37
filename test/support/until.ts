/** Tests wait for conditions, never for time. */
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Asks until the answer satisfies, or is truthy where nothing else is said: at once, and then more and more seldom.
 * @throws with the last answer after `withinMs`, which is a failure and not a measure
 */
export async function until<T>(ask: () => T | Promise<T>, satisfies: (answer: T) => boolean = Boolean, withinMs = 30_000): Promise<T> {
  const end = Date.now() + withinMs
  for (let pauseMs = 2; ; pauseMs = Math.min(20, pauseMs * 1.5)) {
    const answer = await ask()
    if (satisfies(answer)) return answer
    if (Date.now() > end) throw new Error(`not in ${withinMs} ms: ${JSON.stringify(answer)}`)
    await sleep(pauseMs)
  }
}
