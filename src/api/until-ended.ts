/** Waits for the outcome of a checkout, with a time-out. */
import type { Outcome } from '../model.ts'

export interface Waiting {
  /** Resolves with the outcome, or never if the reply is lost. */
  reply?: Promise<Outcome>
  /** Reads the outcome; undefined while there is none. An error counts as no outcome yet. */
  read: () => Promise<Outcome | undefined>
  /** The pause before a read, in ms. `reads` is the number of earlier reads. */
  pauseMs: (reads: number) => number
  /** When to give up, in ms from now. */
  forMs: number
}

/** @returns the outcome of a checkout by reply or by read, whichever comes first, or undefined when the time is over */
export function untilEnded({ reply, read, pauseMs, forMs }: Waiting): Promise<Outcome | undefined> {
  return new Promise((resolve) => {
    let over = false
    let nextRead: NodeJS.Timeout
    const end = (outcome: Outcome | undefined) => {
      over = true
      clearTimeout(nextRead)
      clearTimeout(timer)
      resolve(outcome)
    }
    const timer = setTimeout(end, forMs, undefined)
    const readLater = (reads: number) => {
      nextRead = setTimeout(async () => {
        const outcome = await read().catch(() => undefined)
        if (over) return
        if (outcome) end(outcome)
        else readLater(reads + 1)
      }, pauseMs(reads))
    }
    readLater(0)
    reply?.then(end, () => {}) // a failed reply counts as lost
  })
}
