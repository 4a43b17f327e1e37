/** Median, percentile and ratios. */

/** The median; for an even number of values the mean of the middle two. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = (sorted.length - 1) / 2
  return (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2
}

/** The value that `percent` of all values do not exceed. */
export function percentile(values: readonly number[], percent: number): number {
  return values.toSorted((a, b) => a - b)[Math.max(0, Math.ceil((values.length * percent) / 100) - 1)]!
}

/**
 * One line with the median ratio and the ratio of each round, so that a slow machine affects both sides of a ratio.
 * @param over numerators by round
 * @param under denominators by round
 */
export function ratioLine(name: string, over: readonly number[], under: readonly number[]): string {
  const ratios = over.map((value, round) => value / under[round]!)
  return `ratio ${name}: ${median(ratios).toFixed(2)}   (${ratios.map((ratio) => ratio.toFixed(2)).join(', ')})`
}
