/** Leases in memory, with the promises of src/stock/leases.ts, its scripts and its marker: one server, and a client in each process. */
import type { DoubtfulCall } from '../../../src/db/stock-ledger.ts'
import { enoughFor, type Lease, type Leases, LeaseTimeout, type Wish } from '../../../src/stock/leases.ts'
import { CALL_TIMEOUT_MS } from './catalog.ts'
import type { Life, World } from './world.ts'

export const LEASE_MS = enoughFor(CALL_TIMEOUT_MS) + 1000
const ELDER_MS = 500
const LOOK_AGAIN_MS = 250
const TRIED_AT_ONCE = 16

export interface LeaseTerms {
  /** Switched off: everybody gets every lease at once. */
  lease: boolean
  /** Switched off: a Redis that forgot its leases gives new ones at once. */
  freeze: boolean
}

export interface PlayedLeases {
  /** @param mayHaveCalls asked where Redis may have lost leases */
  clientOf(life: Life, mayHaveCalls: () => Promise<boolean>): Leases
  /** FLUSHALL. */
  flush(): void
}

interface Entry {
  token?: string | undefined
  deadline: number
  call?: DoubtfulCall | undefined
  /** The calls of leases that had run out before it, kept until its holder has them on record. */
  older: DoubtfulCall[]
  elder?: { token: string; since: number; until: number } | undefined
}

interface Waiter extends Wish {
  life: Life
  token: string
  since: number
  tries: number
  over: boolean
  asking: boolean
  ask(): void
}

export function playLeases(world: World, terms: LeaseTerms): PlayedLeases {
  const entries = new Map<number, Entry>()
  let marker: { givesFrom: number } | undefined
  /** Those who were refused and listen, in the order in which they came. */
  let waiters: Waiter[] = []
  let taken = 0

  function entryOf(productId: number): Entry {
    const entry = entries.get(productId) ?? { deadline: 0, older: [] }
    entries.set(productId, entry)
    return entry
  }

  function take({ token, since, productIds, calls }: Waiter): 'unmarked' | 'refused' | DoubtfulCall[] {
    const now = world.now()
    if (!marker) return 'unmarked'
    const wanted = productIds.map((id) => ({ id, entry: entryOf(id) }))
    const isFree = ({ token: holder, deadline, elder }: Entry) =>
      !(holder !== undefined && deadline > now) && !(elder && elder.token !== token && elder.until > now && elder.since <= since)
    if (marker.givesFrom > now || !wanted.every(({ entry }) => isFree(entry))) {
      for (const { entry } of wanted) {
        if (
          now - since > ELDER_MS &&
          (!entry.elder || entry.elder.token === token || entry.elder.until <= now || since < entry.elder.since)
        )
          entry.elder = { token, since, until: now + 1000 }
      }
      return 'refused'
    }
    return wanted.flatMap(({ id, entry }) => {
      if (entry.token !== undefined && entry.call) entry.older.push(entry.call)
      Object.assign(entry, { token, deadline: now + LEASE_MS, call: calls.find((call) => call.productId === id) })
      if (entry.elder?.token === token) entry.elder = undefined
      return [...entry.older]
    })
  }

  function release(productIds: readonly number[], token: string): void {
    for (const id of productIds) {
      const entry = entryOf(id)
      const isConcerned = entry.token === token || entry.elder?.token === token
      if (entry.token === token) Object.assign(entry, { token: undefined, deadline: 0, call: undefined })
      if (entry.elder?.token === token) entry.elder = undefined
      if (!isConcerned) continue
      const woken = waiters.filter(({ productIds: theirs }) => theirs.includes(id)).slice(0, TRIED_AT_ONCE)
      for (const waiter of woken) world.deliver(waiter.life, 0.3, waiter.ask)
    }
  }

  function renew(productIds: readonly number[], token: string): boolean {
    const held = productIds.map(entryOf)
    if (!held.every((entry) => entry.token === token && entry.deadline > world.now())) return false
    for (const entry of held) entry.deadline = world.now() + LEASE_MS
    return true
  }

  function leaseOf(life: Life, { productIds, token, tries }: Waiter, expired: DoubtfulCall[], began: number): Lease {
    let until = began + LEASE_MS
    let runsOut = false
    return {
      expired,
      expiredOnRecord() {
        world.tellInOrder(life, () => {
          for (const id of productIds) if (entryOf(id).token === token) entryOf(id).older = []
        })
      },
      waited: tries > 1,
      wanted: () => waiters.some((one) => one.life === life && one.productIds.some((id) => productIds.includes(id))),
      async keep(ms) {
        const now = world.now()
        if (until - now >= ms) return true
        if (!(await world.askInOrder(life, () => renew(productIds, token)))) return false
        until = now + LEASE_MS
        return true
      },
      letGo() {
        if (!runsOut) world.tellInOrder(life, () => release(productIds, token))
      },
      runOut() {
        runsOut = true
      },
    }
  }

  function wait(life: Life, wish: Wish, mark: () => Promise<void>): Promise<Lease> {
    taken += 1
    const token = `lease ${taken}`
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        ...wish,
        life,
        token,
        since: world.now(),
        tries: 0,
        over: false,
        asking: false,
        ask: () => void ask().catch(reject),
      }
      const leave = () => {
        waiter.over = true
        waiters = waiters.filter((one) => one !== waiter)
      }
      async function ask(): Promise<void> {
        if (waiter.over || waiter.asking) return
        waiter.asking = true
        const began = world.now()
        let answer = await world.askInOrder(life, () => take(waiter))
        while (answer === 'unmarked') {
          await mark()
          answer = await world.askInOrder(life, () => take(waiter))
        }
        waiter.asking = false
        waiter.tries += 1
        if (answer !== 'refused') {
          const lease = leaseOf(life, waiter, answer, began)
          if (waiter.over) return lease.letGo()
          leave()
          world.tell(
            () =>
              `${life.process} has ${token} of ${wish.productIds.join()} for ${wish.calls[0]?.orderId}, expired ${JSON.stringify(answer)}`,
          )
          return resolve(lease)
        }
        if (waiter.over) return
        if (waiter.tries > 1) return
        waiters.push(waiter)
        lookAgain()
      }
      const lookAgain = () =>
        world.deliver(life, LOOK_AGAIN_MS, () => {
          if (waiter.over) return
          waiter.ask()
          lookAgain()
        })
      world.deliver(life, Math.max(0, wish.deadline - world.now()), () => {
        if (waiter.over) return
        leave()
        world.tellInOrder(life, () => release(wish.productIds, token))
        reject(new LeaseTimeout('waited until the deadline'))
      })
      waiter.ask()
    })
  }

  const atOnce: Lease = {
    expired: [],
    expiredOnRecord() {},
    waited: false,
    wanted: () => false,
    keep: async () => true,
    letGo() {},
    runOut() {},
  }

  return {
    clientOf: (life, mayHaveCalls) => ({
      take: async (wish) => {
        if (!terms.lease) return atOnce
        return wait(life, wish, async () => {
          const ms = (await mayHaveCalls()) && terms.freeze ? LEASE_MS : 0
          await world.askInOrder(life, () => void (marker ??= { givesFrom: world.now() + ms }))
        })
      },
      waiting: () => waiters.filter((waiter) => waiter.life === life).length,
      close: async () => {},
    }),
    flush() {
      entries.clear()
      marker = undefined
    },
  }
}
