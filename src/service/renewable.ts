/** A part that can be taken out and made anew while the rest goes on. */
export interface Renewable<Part> {
  /** The one at work now. */
  current(): Part
  start(): void
  /** Ends the one at work, whatever state it is in, and starts another. Not after `stop`. */
  rebuild(): Promise<void>
  stop(): Promise<void>
}

/** @param make gives a part whose `stop` ends within seconds, also where it hangs */
export function renewable<Part extends { start(): void; stop(): Promise<unknown> }>(make: () => Part): Renewable<Part> {
  let part = make()
  let isStopped = false
  return {
    current: () => part,
    start: () => part.start(),
    async rebuild() {
      await part.stop().catch(() => {}) // what hangs has been cut off
      if (isStopped) return
      part = make()
      part.start()
    },
    async stop() {
      isStopped = true
      await part.stop()
    },
  }
}
