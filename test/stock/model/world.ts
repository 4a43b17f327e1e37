/**
 * A world without timers and I/O: time is a queue of events, chance is a seed. One seed is one history, every time.
 *
 * What a process asks of a server is heard there after a while, and the answer travels back. A process that was killed hears nothing
 * any more, so that its code never goes on; one that was stopped hears everything when it wakes.
 */

/** A process from its start to its end. */
export interface Life {
  process: number
  alive: boolean
  /** Stopped until then, in ms. */
  thawsAt: number
  /** What befalls it when so many more answers and wake-ups have reached it: in the middle of its work, whatever that is. */
  fate?: { answers: number; strike: () => void } | undefined
}

export interface Chance {
  /** From `low` on, below `high`. */
  between(low: number, high: number): number
  /** From 0 on, below `n`. */
  below(n: number): number
  pick<T>(choices: readonly T[]): T
  /** @param share of 1 */
  happens(share: number): boolean
}

export interface World {
  /** In ms since the beginning. */
  now(): number
  chance: Chance
  /** How often what happened. */
  tally: Record<string, number>
  count(what: string, times?: number): void
  /** For whoever reads a history. */
  tell(what: () => string): void
  after(ms: number, act: () => void): void
  /** `act` happens at PostgreSQL a moment later, for certain, also where the process ends meanwhile; its answer travels back. */
  ask<T>(life: Life, act: () => T): Promise<T>
  /** `act` happens at Redis, where all that one process asks and tells arrives in its order. */
  askInOrder<T>(life: Life, act: () => T): Promise<T>
  /** Like {@link askInOrder}, without an answer. */
  tellInOrder(life: Life, act: () => void): void
  /** After `ms` or when the process wakes, whichever is later; never where it was killed. */
  deliver(life: Life, ms: number, act: () => void): void
  sleep(life: Life, ms: number): Promise<void>
  /** Lets events happen until `isOver`, which is asked after each of them. */
  run(isOver: () => boolean): Promise<void>
}

interface Event {
  at: number
  serial: number
  act: () => void
}

/** How long a question, or its answer, is under way between a process and PostgreSQL or Redis, in ms. */
const TRAVELS_MS = 0.4

/** @param hear is told the history, line by line */
export function createWorld(seed: number, hear?: (line: string) => void): World {
  const events: Event[] = []
  const chance = createChance(seed)
  const tally: Record<string, number> = {}
  const arrivals = new WeakMap<Life, number>()
  let now = 0
  let serial = 0

  const world: World = {
    now: () => now,
    chance,
    tally,
    count(what, times = 1) {
      tally[what] = (tally[what] ?? 0) + times
    },
    tell(what) {
      hear?.(`${(now / 1000).toFixed(4).padStart(9)}  ${what()}`)
    },
    after(ms, act) {
      serial += 1
      push(events, { at: now + ms, serial, act })
    },
    ask: (life, act) => new Promise((resolve, reject) => world.after(travels(), answering(life, act, resolve, reject))),
    askInOrder: (life, act) => new Promise((resolve, reject) => world.tellInOrder(life, answering(life, act, resolve, reject))),
    tellInOrder(life, act) {
      const arrives = Math.max(arrivals.get(life) ?? 0, now + travels())
      arrivals.set(life, arrives)
      world.after(arrives - now, act)
    },
    deliver(life, ms, act) {
      world.after(ms, () => {
        meet(life)
        if (!life.alive) return
        if (life.thawsAt > now) world.deliver(life, life.thawsAt - now, act)
        else act()
      })
    },
    sleep: (life, ms) => new Promise((resolve) => world.deliver(life, ms, resolve)),
    async run(isOver) {
      while (events.length > 0 && !isOver()) {
        const event = pop(events)
        now = event.at
        event.act()
        await settled()
      }
    },
  }
  const travels = () => chance.between(0.2, 1) * TRAVELS_MS

  function meet(life: Life): void {
    const { fate } = life
    if (!fate || !life.alive || life.thawsAt > now) return
    fate.answers -= 1
    if (fate.answers > 0) return
    life.fate = undefined
    fate.strike()
  }

  function answering<T>(life: Life, act: () => T, resolve: (value: T) => void, reject: (error: unknown) => void): () => void {
    return () => {
      try {
        const value = act()
        world.deliver(life, travels(), () => resolve(value))
      } catch (error) {
        world.deliver(life, travels(), () => reject(error))
      }
    }
  }

  return world
}

/** Node comes to its ticks when all promises have been seen to. */
const settled = () => new Promise<void>((resolve) => process.nextTick(resolve))

/** mulberry32: https://gist.github.com/tommyettinger/46a874533244883189143505d203312c */
function createChance(seed: number): Chance {
  let state = (seed * 2_654_435_761) >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
  return {
    between: (low, high) => low + next() * (high - low),
    below: (n) => Math.floor(next() * n),
    pick: (choices) => choices[Math.floor(next() * choices.length)]!,
    happens: (share) => next() < share,
  }
}

const isBefore = (a: Event, b: Event) => a.at < b.at || (a.at === b.at && a.serial < b.serial)

/** A heap: the first event is at 0, and none is before its parent. */
function push(heap: Event[], event: Event): void {
  let at = heap.length
  while (at > 0) {
    const parent = (at - 1) >> 1
    if (!isBefore(event, heap[parent]!)) break
    heap[at] = heap[parent]!
    at = parent
  }
  heap[at] = event
}

function pop(heap: Event[]): Event {
  const first = heap[0]!
  const last = heap.pop()!
  if (heap.length === 0) return first
  let at = 0
  for (;;) {
    let child = 2 * at + 1
    if (child >= heap.length) break
    if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child += 1
    if (!isBefore(heap[child]!, last)) break
    heap[at] = heap[child]!
    at = child
  }
  heap[at] = last
  return first
}
