/** The pace of the real services: how many calls a second they answer, and how long each takes, by the number of calls under way. */
import type { Chance } from './chance.ts'
import type { Waits } from './waits.ts'

/** Calls answered per second when one caller calls again and again, when 16 do, and when 64 do. */
export interface Throughput {
  alone: number
  at16: number
  at64: number
}

/** The wire contract: "One call takes about 4 ms; more than 16 at a time gain nothing (360/s at 16, 280/s at 64, …)". */
export const catalogThroughput: Throughput = { alone: 250, at16: 360, at64: 280 }

/** The wire contract: "It serves about 240/s with 16 calls at a time". The other two are assumed; a call alone takes 4.2 ms. */
export const shippingThroughput: Throughput = { alone: 240, at16: 240, at64: 240 }

/**
 * This many calls are served at a time; the others wait. Catalog reads when a service starts and writes when it ends, so with 5 servers 80 %
 * of the reserves are lost with 16 at a time on one product, and half with 2. The wire contract measured 80 % and 44 %.
 */
export const servers = 5

/**
 * Up to this many calls under way are served in the order of their arrival, more of them in any order. The wire contract: at 64 at a time
 * "the slowest takes 20 times as long".
 */
const orderlyUpTo = 16

/** Calls answered per second with this many under way. Between the measured figures each doubling adds the same; beyond 64 it stays. */
export function callsPerSecond({ alone, at16, at64 }: Throughput, underWay: number): number {
  if (underWay <= 16) return alone + ((at16 - alone) * Math.log2(underWay)) / 4
  return at16 + ((at64 - at16) * Math.log2(Math.min(underWay, 64) / 16)) / 2
}

/** How long one service takes on average, so that the busy servers together come to that throughput. */
export function serviceMs(throughput: Throughput, underWay: number): number {
  return (1_000 * Math.min(underWay, servers)) / callsPerSecond(throughput, underWay)
}

/** A bounded number of servers, and the calls that wait for one. */
export class Capacity {
  readonly #throughput: Throughput
  readonly #chance: Chance
  readonly #waits: Waits
  readonly #waiting: ((at: number) => void)[] = []
  #underWay = 0

  constructor(throughput: Throughput, chance: Chance, waits: Waits) {
    this.#throughput = throughput
    this.#chance = chance
    this.#waits = waits
  }

  /** Calls `begin` when a server is free, and `end` with its result when the service is over. A service takes 3/4 to 5/4 of the average. */
  serve<Begun, Result>(begin: () => Begun, end: (begun: Begun) => Result): Promise<Result> {
    return new Promise((resolve) => {
      const start = (at: number) => {
        const begun = begin()
        const due = at + serviceMs(this.#throughput, this.#underWay) * (0.75 + this.#chance.next() / 2)
        this.#waits.after(Math.max(0, due - performance.now()), () => {
          resolve(end(begun))
          this.#takeNext(due)
        })
      }
      this.#underWay += 1
      if (this.#underWay <= servers) start(performance.now())
      else this.#waiting.push(start)
    })
  }

  /** The next service counts from when this one was due, since timers fire late and throughput would suffer. */
  #takeNext(due: number): void {
    const at = this.#underWay > orderlyUpTo ? this.#chance.between(0, this.#waiting.length - 1) : 0
    const [next] = this.#waiting.splice(at, 1)
    next?.(due)
    this.#underWay -= 1
  }
}
