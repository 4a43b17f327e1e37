/** What a downstream has put off: all of it can be called off at once, so that a stopped downstream leaves no timer and does nothing any more. */
export class Waits {
  readonly #pending = new Set<NodeJS.Timeout>()

  /** Does it after so many ms, unless called off before. */
  after(ms: number, act: () => unknown): void {
    const timer = setTimeout(() => {
      this.#pending.delete(timer)
      act()
    }, ms)
    this.#pending.add(timer)
  }

  /** Resolves after so many ms; never, where called off before. */
  pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve))
  }

  /** Forgets everything that was put off. */
  callOff(): void {
    for (const timer of this.#pending) clearTimeout(timer)
    this.#pending.clear()
  }
}
