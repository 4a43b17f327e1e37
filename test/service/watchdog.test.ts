/** The watchdog by itself, on a clock that the test moves: a check every second, a limit of six. */
import test from 'ava'
import { createWatchdog, type WaitingWork } from '../../src/service/watchdog.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'

const LIMIT_MS = 6000

/** A component whose work, answers and rebuilding the test decides, and its watchdog. */
function watchedComponent() {
  const metrics = createMetrics()
  let now = 1000
  const component = {
    waiting: [] as WaitingWork[] | Error,
    done: 0,
    isAway: false,
    probes: 0,
    rebuilt: 0,
    /** What a restart does for it. */
    onRebuild: async () => {},
    /** How long a check of it takes, in ms. */
    checkMs: 0,
  }
  const givenUp: string[] = []
  const dog = createWatchdog(
    {
      name: 'relay',
      required: true,
      async waiting() {
        now += component.checkMs
        if (component.waiting instanceof Error) throw component.waiting
        return component.waiting
      },
      succeeded: () => component.done,
      async probe() {
        component.probes += 1
        if (component.isAway) throw new Error('away')
      },
      async restart() {
        component.rebuilt += 1
        await component.onRebuild()
      },
    },
    { limitMs: LIMIT_MS, now: () => now, logger: createLogger('silent'), metrics, stopProcess: (reason) => givenUp.push(reason) },
  )
  return {
    component,
    givenUp,
    /** So many checks, each a second after the one before. */
    async checks(count: number, meanwhile: (check: number) => void = () => {}) {
      for (let check = 0; check < count; check++) {
        now += dog.everyMs
        meanwhile(check)
        await dog.poll()
      }
    },
    /** The process is stopped for so long. */
    frozen: (ms: number) => void (now += ms),
    readiness: () =>
      dog.check.check().then(
        () => 'ok',
        (error: Error) => error.message,
      ),
    async stalled() {
      const { values } = await metrics.componentStalled.get()
      return values[0]!.value
    },
    async rebuilds() {
      const { values } = await metrics.componentRestarts.get()
      return values[0]?.value ?? 0
    },
  }
}

const waits = (mark: number, what = 'messages wait'): WaitingWork[] => [{ what, mark }]

test('a component with nothing to do is left alone, and its dependencies are not checked', async (t) => {
  const { component, checks, readiness, givenUp } = watchedComponent()
  await checks(100)
  t.is(component.rebuilt, 0)
  t.is(component.probes, 0)
  t.is(await readiness(), 'ok')
  t.deepEqual(givenUp, [])
})

test('a component that makes no progress while work waits is restarted after the limit, then given up, once', async (t) => {
  const { component, checks, readiness, stalled, rebuilds, givenUp } = watchedComponent()
  component.waiting = waits(7)
  await checks(6)
  t.is(component.rebuilt, 0)
  t.is(await readiness(), 'ok')
  t.is(await stalled(), 0)

  await checks(1)
  t.is(component.rebuilt, 1)
  t.is(await readiness(), 'stalled for 6 s: messages wait')
  t.is(await stalled(), 1)
  t.is(await rebuilds(), 1)

  await checks(6)
  t.deepEqual(givenUp, [])
  await checks(20)
  t.is(component.rebuilt, 1)
  t.deepEqual(givenUp, ['relay stalled for 6 s after its restart: messages wait'])
})

test('a component that makes progress after its restart is ready again, though other work waits at each check', async (t) => {
  const { component, checks, stalled, givenUp } = watchedComponent()
  component.waiting = waits(1)
  await checks(7)
  t.is(await stalled(), 1)
  await checks(1, (check) => (component.waiting = waits(check, 'partition 2')))
  t.is(await stalled(), 1)
  await checks(1, () => {
    component.done += 1
    component.waiting = waits(1, 'partition 3')
  })
  t.is(await stalled(), 0)
  component.waiting = waits(1)
  await checks(7)
  t.is(component.rebuilt, 2, 'the next stall begins from the start')
  t.deepEqual(givenUp, [])
})

test('a component that works again after its restart is ready again, and its next stall gets the whole limit', async (t) => {
  const { component, checks, readiness, stalled, givenUp } = watchedComponent()
  component.waiting = waits(1)
  await checks(7)
  t.is(await stalled(), 1)
  component.waiting = waits(2)
  await checks(1)
  t.is(await stalled(), 1, 'what is seen for the first time says nothing yet')
  component.waiting = waits(3)
  await checks(1)
  t.is(await readiness(), 'ok')
  t.is(await stalled(), 0)

  await checks(6)
  t.is(component.rebuilt, 2)
  t.deepEqual(givenUp, [])
  component.waiting = []
  await checks(1)
  t.is(await readiness(), 'ok')
})

test('a component that works slowly is not stalled: a failed try counts as progress', async (t) => {
  const { component, checks } = watchedComponent()
  await checks(100, (check) => (component.waiting = waits(Math.floor(check / 5))))
  t.is(component.rebuilt, 0)
})

test('one kind of work that is stalled is found beside another that goes on', async (t) => {
  const { component, checks } = watchedComponent()
  await checks(7, (check) => (component.waiting = [...waits(check, 'partition 1'), ...waits(3, 'partition 2')]))
  t.is(component.rebuilt, 1)
})

test('an outage is waited for however long it lasts, and its end gives the component all of the limit again', async (t) => {
  const { component, checks, givenUp, readiness } = watchedComponent()
  component.waiting = waits(1)
  component.isAway = true
  await checks(100)
  t.is(component.rebuilt, 0)
  t.is(await readiness(), 'ok')
  component.isAway = false
  await checks(6)
  t.is(component.rebuilt, 0)
  await checks(1)
  t.is(component.rebuilt, 1)
  component.isAway = true
  await checks(100)
  t.deepEqual(givenUp, [], 'after its restart, too')
})

test('a short outage within the limit gives the component the whole limit again', async (t) => {
  const { component, checks } = watchedComponent()
  component.waiting = waits(1)
  await checks(5)
  component.isAway = true
  await checks(1)
  component.isAway = false
  await checks(6)
  t.is(component.rebuilt, 0)
})

test('a component whose own connections do not answer while fresh ones do is stalled, unless it makes progress', async (t) => {
  const { component, checks, readiness } = watchedComponent()
  component.waiting = new Error('Command timed out')
  await checks(50, (check) => (component.done = Math.floor(check / 3)))
  t.is(component.rebuilt, 0)
  await checks(7)
  t.is(component.rebuilt, 1)
  t.is(await readiness(), 'stalled for 6 s: its own connections do not answer')
})

test('a process that was stopped gets the whole limit when it wakes, wherever it was stopped', async (t) => {
  const { component, checks, frozen } = watchedComponent()
  component.waiting = waits(1)
  await checks(5)
  frozen(60_000)
  await checks(6)
  t.is(component.rebuilt, 0, 'between two checks')

  component.checkMs = 60_000
  await checks(1)
  component.checkMs = 0
  await checks(6)
  t.is(component.rebuilt, 0, 'within a check')
  await checks(1)
  t.is(component.rebuilt, 1)
})

test('a component that cannot be restarted is given up', async (t) => {
  const { component, checks, givenUp } = watchedComponent()
  component.waiting = waits(1)
  component.onRebuild = () => Promise.reject(new Error('no room'))
  await checks(14)
  t.is(component.rebuilt, 1)
  t.is(givenUp.length, 1)
})
