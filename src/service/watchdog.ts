/**
 * Health is progress, not connection: a component that is connected and does nothing while work waits for it is dead, and nobody else finds
 * out for a day. Each component is looked at; one that stands still is built anew, and where that does not help the process is given up for
 * its supervisor to start again. What is away is waited for: that is told by fresh connections, since those at hand may be what is dead.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Check } from '../api/ops.ts'
import { within } from '../within.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'

/** Work that waits for a component. */
export interface WaitingWork {
  /** In words that stay the same for as long as it waits. */
  what: string
  /** Changes with every try, also with one that failed: a component that fails says so in the log, and is not dead. */
  mark: string | number
}

/** A component, as its watchdog sees it. */
export interface Watched {
  /** As log, readiness and metrics call it. */
  name: string
  /** Whether the process is not ready while this component stands still. */
  required: boolean
  /** What waits for this component and no other. Asked through the connections that the component itself uses; throws where they do not answer. */
  waiting(): Promise<WaitingWork[]>
  /** Rises whenever the component has done something: as long as it does, a look in vain says only that much is going on. */
  succeeded(): number
  /** Asks everything that the component depends on, by fresh connections. Throws where one of them does not answer: that is an outage, and nobody's death. */
  probe(): Promise<unknown>
  /** Ends the component, whatever state it is in, and makes another. */
  rebuild(): Promise<void>
}

export interface WatchOptions {
  /** How long work may wait while the component does nothing: then the component is built anew, and after as long again the process is given up. */
  limitMs: number
  /** A monotonic clock, in ms. */
  now: () => number
  logger: Logger
  metrics: Pick<Metrics, 'componentStalled' | 'componentRestarts'>
  /** The component stands still although it was built anew. Called once, with what to tell. */
  giveUp(reason: string): void
}

export interface Watchdog {
  /** One look, to be had again after `everyMs`. Never throws. */
  look(): Promise<void>
  everyMs: number
  /** For readiness: throws, with the reason, while the component stands still. */
  check: Check
}

/** Within the limit: an outage that lasts for a sixth of it is seen. */
const LOOKS = 6
/** More than a place in the pool is waited for. */
const ASK_MS = 2500
const PROBE_MS = 5000
/** The longest that a component of ours takes to end, and some room. */
const REBUILD_MS = 15_000

export function createWatchdog(component: Watched, { limitMs, now, logger, metrics, giveUp }: WatchOptions): Watchdog {
  const { name } = component
  const everyMs = limitMs / LOOKS
  /** What waited at the last look, and since when without a try. */
  let seen = new Map<string, { mark: string | number; since: number }>()
  let stalled: string | undefined
  /** What it had done when it was built anew. */
  let doneBefore = 0
  let lookedAt = now()
  let isGivenUp = false
  metrics.componentStalled.set({ component: name }, 0)

  async function ask(): Promise<WaitingWork[]> {
    try {
      return await within(ASK_MS, component.waiting())
    } catch (error) {
      logger.debug({ err: error, component: name }, 'it cannot be asked what waits')
      return [{ what: 'its own connections do not answer', mark: component.succeeded() }]
    }
  }

  async function isOutage(): Promise<boolean> {
    try {
      await within(PROBE_MS, component.probe())
      return false
    } catch (error) {
      logger.debug({ err: error, component: name }, 'what it depends on is away, which is waited for')
      return true
    }
  }

  async function look(): Promise<void> {
    const began = now()
    // A process that was stopped, or had no CPU, did nothing because it could not.
    if (began - lookedAt > 2 * everyMs) seen.clear()
    const waiting = await ask()
    const before = seen
    seen = new Map(waiting.map(({ what, mark }) => [what, { mark, since: sinceWhen(before.get(what), mark) }]))
    const standing = waiting.filter(({ what, mark }) => before.get(what)?.mark === mark)
    if (standing.length === 0) {
      if (waiting.every(({ what }) => before.has(what)) || component.succeeded() > doneBefore) recover()
    } else if ((await isOutage()) || now() - began > ASK_MS + PROBE_MS + everyMs) {
      seen.clear()
    }
    const oldest = [...seen].toSorted(([, a], [, b]) => a.since - b.since)[0]
    lookedAt = now()
    if (oldest && lookedAt - oldest[1].since >= limitMs) await standsStill(oldest[0], lookedAt - oldest[1].since)
  }

  function sinceWhen(before: { mark: string | number; since: number } | undefined, mark: string | number): number {
    return before?.mark === mark ? before.since : now()
  }

  function recover(): void {
    if (!stalled) return
    logger.info({ component: name }, 'it works again')
    stalled = undefined
    metrics.componentStalled.set({ component: name }, 0)
  }

  async function standsStill(what: string, ms: number): Promise<void> {
    const wasRebuilt = stalled !== undefined
    stalled = `${what}, and it has done nothing for ${Math.round(ms / 1000)} s`
    metrics.componentStalled.set({ component: name }, 1)
    if (wasRebuilt) {
      isGivenUp = true
      giveUp(`${name}: ${stalled}, also after it was built anew`)
      return
    }
    logger.error({ component: name, reason: stalled }, 'it stands still and is built anew')
    metrics.componentRestarts.inc({ component: name })
    await within(REBUILD_MS, component.rebuild()).catch((error) =>
      logger.warn({ err: error, component: name }, 'it could not be built anew'),
    )
    doneBefore = component.succeeded()
    seen.clear()
    lookedAt = now()
  }

  return {
    look: async () => {
      if (!isGivenUp) await look()
    },
    everyMs,
    check: {
      name: `${name}-progress`,
      required: component.required,
      check: async () => {
        if (stalled) throw new Error(stalled)
      },
    },
  }
}

/** Looks until `signal` is aborted. */
export async function watch({ look, everyMs }: Watchdog, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await sleep(everyMs, undefined, { signal }).catch(() => {})
    if (!signal.aborted) await look()
  }
}
