/** Waiting, with an end to it. */
import type { Outcome } from '../model.ts'

export interface Waiting {
  /** Resolves with the outcome, or, lost on the way, never. */
  reply?: Promise<Outcome>
  /** Looks for the outcome; undefined while there is none. What it throws is a look in vain. */
  look: () => Promise<Outcome | undefined>
  /** How long to pause before a look, in ms, by how many there have been. */
  pauseMs: (looks: number) => number
  /** When to give up, in ms from now. */
  forMs: number
}

/** @returns the outcome of a checkout by reply or by look, whichever comes first, or undefined when the time is over */
export function untilEnded({ reply, look, pauseMs, forMs }: Waiting): Promise<Outcome | undefined> {
  return new Promise((resolve) => {
    let over = false
    let nextLook: NodeJS.Timeout
    const end = (outcome: Outcome | undefined) => {
      over = true
      clearTimeout(nextLook)
      clearTimeout(giveUp)
      resolve(outcome)
    }
    const giveUp = setTimeout(end, forMs, undefined)
    const lookLater = (looks: number) => {
      nextLook = setTimeout(async () => {
        const outcome = await look().catch(() => undefined)
        if (over) return
        if (outcome) end(outcome)
        else lookLater(looks + 1)
      }, pauseMs(looks))
    }
    lookLater(0)
    reply?.then(end, () => {}) // a reply that fails is a lost one
  })
}
