/** A component that can be taken out and made anew while the rest goes on. */
export interface Renewable<Part> {
  /** The one at work now. */
  current(): Part
  start(): void
  /** Ends the one at work, whatever state it is in, and starts another. Not after `stop`. */
  rebuild(): Promise<void>
  stop(): Promise<void>
}

/** @param make gives a component whose `stop` ends within seconds, also where it hangs */
export function renewable<Part extends { start(): void; stop(): Promise<unknown> }>(make: () => Part): Renewable<Part> {
  let component = make()
  let isStopped = false
  return {
    current: () => component,
    start: () => component.start(),
    async rebuild() {
      await component.stop().catch(() => {}) // what hangs has been cut off
      if (isStopped) return
      component = make()
      component.start()
    },
    async stop() {
      isStopped = true
      await component.stop()
    },
  }
}
