/** A component that can be ended and created again while the rest of the process continues. */
export interface Restartable<Component> {
  /** The instance that runs now. */
  current(): Component
  start(): void
  /** Ends the current instance, whatever state it is in, and starts another. Starts none after `stop`. */
  restart(): Promise<void>
  stop(): Promise<void>
}

/** @param create returns an instance whose `stop` ends within seconds, even if it hangs */
export function restartable<Component extends { start(): void; stop(): Promise<unknown> }>(
  create: () => Component,
): Restartable<Component> {
  let component = create()
  let isStopped = false
  return {
    current: () => component,
    start: () => component.start(),
    async restart() {
      await component.stop().catch(() => {}) // an instance that hangs has been cut off
      if (isStopped) return
      component = create()
      component.start()
    },
    async stop() {
      isStopped = true
      await component.stop()
    },
  }
}
