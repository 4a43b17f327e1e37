/** Preloaded, puts the clock of a process off: `node --import file:///.../wrong-clock.ts?20000 src/main.ts`. The monotonic clock stays right. */
const offMs = Number(new URL(import.meta.url).search.slice(1))
const { now } = Date

class WrongDate extends Date {
  constructor(...time: [] | ConstructorParameters<typeof Date>) {
    if (time.length === 0) super(now() + offMs)
    else super(...time)
  }

  static override now(): number {
    return now() + offMs
  }
}

globalThis.Date = WrongDate as DateConstructor
