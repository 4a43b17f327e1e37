/** How long a partition is put off after a fault. */

/** A fault is met after 0.1 s, 0.2 s, ... 3.2 s: PostgreSQL is back in seconds, and customers wait. */
export const pauseMs = (faults: number) => Math.min(3200, 100 * 2 ** (faults - 1))

export interface Pauses {
  /** Resumes the partition after a pause that grows with each fault. @returns the pause in ms */
  after(partition: number, resume: () => void): number
  /** The partition's next pause is a short one. */
  none(partition: number): void
  end(): void
}

export function createPauses(): Pauses {
  const faults = new Map<number, number>()
  const timers = new Map<number, NodeJS.Timeout>()
  return {
    after(partition, resume) {
      const count = (faults.get(partition) ?? 0) + 1
      faults.set(partition, count)
      clearTimeout(timers.get(partition))
      timers.set(partition, setTimeout(resume, pauseMs(count)))
      return pauseMs(count)
    },
    none: (partition) => void faults.delete(partition),
    end() {
      for (const timer of timers.values()) clearTimeout(timer)
    },
  }
}
