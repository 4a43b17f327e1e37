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
  /** What befalls it in the middle of its work: when it has asked so many more questions of this name. */
  fate?: { on: string; skips: number; strike: () => void } | undefined
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
  /** Lets so much time pass, with all that happens in it. */
  pass(ms: number): Promise<void>
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
  const chance = createChance(seed, () => now)
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
        if (!life.alive) return
        if (life.thawsAt > now) world.deliver(life, life.thawsAt - now, act)
        else act()
      })
    },
    sleep: (life, ms) => new Promise((resolve) => world.deliver(life, ms, resolve)),
    async pass(ms) {
      const until = now + ms
      while (events.length > 0 && events[0]!.at <= until) {
        const event = pop(events)
        now = event.at
        event.act()
        await settled()
      }
      now = until
    },
  }
  const travels = () => chance.between(0.2, 1) * TRAVELS_MS

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

/** A process has asked a question, and its answer is still to come. */
export function meetFate(life: Life, question: string): void {
  const { fate } = life
  if (fate?.on !== question || !life.alive) return
  fate.skips -= 1
  if (fate.skips >= 0) return
  life.fate = undefined
  fate.strike()
}

/** Node comes to its ticks when all promises have been seen to. */
const settled = () => new Promise<void>((resolve) => process.nextTick(resolve))

/**
 * What happens at one moment is drawn from the seed, that moment and how much was drawn in it before. So a history that lacks some
 * commands is the same where they had no effect, and its failure can be shrunk. The mixer is that of MurmurHash3.
 */
function createChance(seed: number, now: () => number): Chance {
  const moment = new Float64Array(1)
  const halves = new Uint32Array(moment.buffer)
  let drawn = 0
  const next = () => {
    if (moment[0] !== now()) drawn = 0
    moment[0] = now()
    drawn += 1
    return [halves[1]!, halves[0]!, drawn].reduce((hash, part) => mix(hash ^ part), mix(seed + 1)) / 4_294_967_296
  }
  return {
    between: (low, high) => low + next() * (high - low),
    below: (n) => Math.floor(next() * n),
    pick: (choices) => choices[Math.floor(next() * choices.length)]!,
    happens: (share) => next() < share,
  }
}

function mix(hash: number): number {
  let mixed = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return (mixed ^ (mixed >>> 16)) >>> 0
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
