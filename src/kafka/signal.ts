/** A signal that one loop waits for. However often it is sent while the loop is busy, it is received once. */
export interface Signal {
  send(): void
  /** Resolves when it was sent since the last call, or after `ms`. One waiter at a time. */
  received(ms: number): Promise<void>
}

export function createSignal(): Signal {
  let isSent = false
  let waiter: (() => void) | undefined

  return {
    send() {
      isSent = true
      waiter?.()
    },
    async received(ms) {
      if (!isSent) {
        let timer: NodeJS.Timeout | undefined
        await new Promise<void>((resolve) => {
          waiter = resolve
          timer = setTimeout(resolve, ms)
        })
        clearTimeout(timer)
        waiter = undefined
      }
      isSent = false
    },
  }
}
