/** How long a partition is paused after a fault. */
import { exponentialBackoffMs } from '../backoff.ts'

/** 0.1 s, 0.2 s, ... 3.2 s: PostgreSQL is back within seconds, and customers wait. */
export const PAUSE_MS = 100
export const MOST_PAUSE_MS = 3200

export interface Pauses {
  /** Resumes the partition after a pause that grows with each fault. @returns the pause in ms */
  resumeLater(partition: number, resume: () => void): number
  /** The partition's next pause is the shortest again. */
  reset(partition: number): void
  end(): void
}

export function createPauses(): Pauses {
  const faults = new Map<number, number>()
  const timers = new Map<number, NodeJS.Timeout>()
  return {
    resumeLater(partition, resume) {
      const count = (faults.get(partition) ?? 0) + 1
      const pauseMs = exponentialBackoffMs(count, PAUSE_MS, MOST_PAUSE_MS)
      faults.set(partition, count)
      clearTimeout(timers.get(partition))
      timers.set(partition, setTimeout(resume, pauseMs))
      return pauseMs
    },
    reset: (partition) => void faults.delete(partition),
    end() {
      for (const timer of timers.values()) clearTimeout(timer)
    },
  }
}
