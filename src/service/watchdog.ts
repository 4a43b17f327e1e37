/**
 * Health is progress, not connection. A component that is connected but makes no progress while work waits for it is restarted. If that does
 * not help, the process ends with exit code 75 for its supervisor to start it again. A server that is away is waited for instead: that is
 * judged by fresh connections, since the component's own may be what is broken.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Check } from '../api/ops.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { within } from '../within.ts'

/** Work that waits for a component. */
export interface WaitingWork {
  /** A description that does not change while the work waits. */
  what: string
  /** Changes with every try, even a failed one: a component whose tries fail logs them, and is not stalled. */
  mark: string | number
}

/** A component, as its watchdog sees it. */
export interface Watched {
  /** Its name in the log, in readiness and in metrics. */
  name: string
  /** Whether the process is not ready while this component is stalled. */
  required: boolean
  /** What waits for this component and no other, read through the component's own connections. Throws where they do not answer. */
  waiting(): Promise<WaitingWork[]>
  /** Rises whenever the component has done something. While it rises, a failed check only means that much is going on. */
  succeeded(): number
  /** Reaches everything that the component depends on by fresh connections. If one does not answer, that is an outage and not a stall. */
  probe(): Promise<unknown>
  /** Ends the component, whatever state it is in, and starts another. */
  restart(): Promise<void>
}

export interface WatchOptions {
  /** How long work may wait without progress: then the component is restarted, and after as long again the process is given up. */
  limitMs: number
  /** A monotonic clock, in ms. */
  now: () => number
  logger: Logger
  metrics: Pick<Metrics, 'componentStalled' | 'componentRestarts'>
  /** Called once, with the reason, when the component is stalled although it was restarted. */
  stopProcess(reason: string): void
}

export interface Watchdog {
  /** Checks the component once; to be called every `everyMs`. Never throws. */
  poll(): Promise<void>
  everyMs: number
  /** For readiness: throws, with the reason, while the component is stalled. */
  check: Check
}

/** An outage that lasts for a sixth of the limit is noticed within it. */
const POLLS_PER_LIMIT = 6
/** Longer than a wait for a connection of the pool. */
const WAITING_MS = 2500
const PROBE_MS = 5000
/** Longer than any component takes to end. */
const RESTART_MS = 15_000

export function createWatchdog(component: Watched, { limitMs, now, logger, metrics, stopProcess }: WatchOptions): Watchdog {
  const { name } = component
  const everyMs = limitMs / POLLS_PER_LIMIT
  /** What waited at the last poll, and since when without a try. */
  let seen = new Map<string, { mark: string | number; since: number }>()
  /** The reason, while it is stalled. */
  let stalled: string | undefined
  /** `succeeded` at the time of its restart. */
  let doneBefore = 0
  let polledAt = now()
  let isGivenUp = false
  metrics.componentStalled.set({ component: name }, 0)
  metrics.componentRestarts.inc({ component: name }, 0) // Prometheus sees no increase of a counter that appears with its first restart

  async function poll(): Promise<void> {
    const began = now()
    // A process that was stopped, or had no CPU, could make no progress.
    if (began - polledAt > 2 * everyMs) seen.clear()
    const waiting = await readWaiting(component, logger)
    const before = seen
    seen = new Map(waiting.map(({ what, mark }) => [what, { mark, since: sinceWhen(before.get(what), mark) }]))
    const unchanged = waiting.filter(({ what, mark }) => before.get(what)?.mark === mark)
    if (unchanged.length === 0) {
      if (waiting.every(({ what }) => before.has(what)) || component.succeeded() > doneBefore) recover()
    } else if ((await isOutage(component, logger)) || now() - began > WAITING_MS + PROBE_MS + everyMs) {
      seen.clear()
    }
    const oldest = [...seen].toSorted(([, a], [, b]) => a.since - b.since)[0]
    polledAt = now()
    if (oldest && polledAt - oldest[1].since >= limitMs) await handleStall(oldest[0], polledAt - oldest[1].since)
  }

  function sinceWhen(before: { mark: string | number; since: number } | undefined, mark: string | number): number {
    return before?.mark === mark ? before.since : now()
  }

  function recover(): void {
    if (!stalled) return
    logger.info({ component: name }, 'component works again')
    stalled = undefined
    metrics.componentStalled.set({ component: name }, 0)
  }

  async function handleStall(what: string, ms: number): Promise<void> {
    const wasRestarted = stalled !== undefined
    const seconds = Math.round(ms / 1000)
    stalled = `stalled for ${seconds} s: ${what}`
    metrics.componentStalled.set({ component: name }, 1)
    if (wasRestarted) {
      isGivenUp = true
      stopProcess(`${name} stalled for ${seconds} s after its restart: ${what}`)
      return
    }
    logger.error({ component: name, reason: stalled }, 'component stalled; restarting it')
    metrics.componentRestarts.inc({ component: name })
    await within(RESTART_MS, component.restart()).catch((error) =>
      logger.warn({ err: error, component: name }, 'component could not be restarted'),
    )
    doneBefore = component.succeeded()
    seen.clear()
    polledAt = now()
  }

  return {
    poll: async () => {
      if (!isGivenUp) await poll()
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

/** Polls until `signal` is aborted. */
export async function watch({ poll, everyMs }: Watchdog, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await sleep(everyMs, undefined, { signal }).catch(() => {})
    if (!signal.aborted) await poll()
  }
}

async function readWaiting(component: Watched, logger: Logger): Promise<WaitingWork[]> {
  try {
    return await within(WAITING_MS, component.waiting())
  } catch (error) {
    logger.debug({ err: error, component: component.name }, 'component does not say what waits for it')
    return [{ what: 'its own connections do not answer', mark: component.succeeded() }]
  }
}

async function isOutage(component: Watched, logger: Logger): Promise<boolean> {
  try {
    await within(PROBE_MS, component.probe())
    return false
  } catch (error) {
    logger.debug({ err: error, component: component.name }, 'a server that the component needs is away; waiting for it')
    return true
  }
}
