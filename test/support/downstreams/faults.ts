import { z } from 'zod'

/**
 * What a downstream can be told to do wrong:
 * - `refuse`: answers a 4xx (`status`, 409) with `detail`; nothing is applied
 * - `error`: answers a 5xx (`status`, 500); applied before that with `actFirst`
 * - `hang`: never answers; nothing is applied
 * - `slow`: acts and answers after `ms`, or acts at once and only answers late with `actFirst`
 * - `drop`: acts, then closes the connection without an answer
 * - `reset`: resets the connection; nothing is applied
 * - `late`: never answers, but acts after `ms`, though the caller may have gone
 * - `garbage`: answers 200 with a body that is no JSON; applied before that with `actFirst`
 */
export const faultKind = z.enum(['refuse', 'error', 'hang', 'slow', 'drop', 'reset', 'late', 'garbage'])

export type FaultKind = z.infer<typeof faultKind>

/** How a fault goes and how often it strikes; which calls it may strike is for each downstream to add. */
export const faultOptions = z.strictObject({
  fault: faultKind,
  status: z.int().min(400).max(599).optional(),
  detail: z.string().optional(),
  /** Of `refuse` and `error`: sent as `Retry-After`. */
  retryAfter: z.string().optional(),
  ms: z.int().min(0).optional(),
  actFirst: z.boolean().optional(),
  /** Strikes so many calls, then no more. */
  times: z.int().min(1).optional(),
  /** Strikes the nth, 2nth, … of the calls that it may strike. */
  everyNth: z.int().min(1).optional(),
})

export type FaultOptions = z.infer<typeof faultOptions>

/** A fault that was told: how often it struck, and the way to take it back. */
export interface Fault {
  id: number
  fired(): number
  remove(): void
}

interface Told<Options> {
  options: Options
  asked: number
  fired: number
}

/** The faults that a downstream was told, in the order of telling: the first that strikes a call is the only one to. */
export class Faults<Options extends FaultOptions> {
  readonly #told = new Map<number, Told<Options>>()
  #lastId = 0

  add(options: Options): Fault {
    const id = ++this.#lastId
    const told = { options, asked: 0, fired: 0 }
    this.#told.set(id, told)
    return { id, fired: () => told.fired, remove: () => void this.#told.delete(id) }
  }

  /** The fault that strikes this call, if one does. */
  strike(mayStrike: (options: Options) => boolean): Options | undefined {
    if (this.#told.size === 0) return undefined
    for (const told of this.#told.values()) {
      const { options } = told
      if (told.fired >= (options.times ?? Infinity) || !mayStrike(options)) continue
      told.asked += 1
      if (told.asked % (options.everyNth ?? 1) !== 0) continue
      told.fired += 1
      return options
    }
    return undefined
  }

  /** @returns whether there was such a fault */
  remove(id: number): boolean {
    return this.#told.delete(id)
  }

  /** Takes all of them back. What they did to calls under way stays done. */
  clear(): void {
    this.#told.clear()
  }
}
