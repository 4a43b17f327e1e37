/** A bell that one loop waits for: rung any number of times while the loop is busy, it is heard once. */
export interface Bell {
  ring(): void
  /** Resolves when it was rung since the last time, or after `ms`. One waiter at a time. */
  heard(ms: number): Promise<void>
}

export function bell(): Bell {
  let rung = false
  let waiter: (() => void) | undefined

  return {
    ring() {
      rung = true
      waiter?.()
    },
    async heard(ms) {
      if (!rung) {
        let timer: NodeJS.Timeout | undefined
        await new Promise<void>((resolve) => {
          waiter = resolve
          timer = setTimeout(resolve, ms)
        })
        clearTimeout(timer)
        waiter = undefined
      }
      rung = false
    },
  }
}
