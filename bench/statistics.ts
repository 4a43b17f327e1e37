/** One figure out of many. */

/** The one in the middle; of an even number of values the mean of the two there. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = (sorted.length - 1) / 2
  return (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2
}

/** The value that so many percent of all do not exceed. */
export function percentile(values: readonly number[], percent: number): number {
  return values.toSorted((a, b) => a - b)[Math.max(0, Math.ceil((values.length * percent) / 100) - 1)]!
}

/**
 * One line for a ratio: of each round, and their median first. A round in which the machine was slow altogether counts like any other.
 * @param over of each round
 * @param under of the same rounds
 */
export function ratioLine(name: string, over: readonly number[], under: readonly number[]): string {
  const ratios = over.map((value, round) => value / under[round]!)
  return `ratio ${name}: ${median(ratios).toFixed(2)}   (${ratios.map((ratio) => ratio.toFixed(2)).join(', ')})`
}
