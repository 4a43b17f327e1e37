/** Counts what ava's default reporter prints. Its TAP reporter breaks on a timeout and is silent about files that do not end. */

/** Tests passed, and everything that failed: tests, and what makes a run worthless beside them. */
export function tally(output: string, exitCode: number): { passed: number; failed: number } {
  const lines = (pattern: RegExp) => output.match(pattern)?.length ?? 0
  const sumOf = (what: string) =>
    [...output.matchAll(new RegExp(`^ +(\\d+) ${what}`, 'gm'))].reduce((sum, match) => sum + Number(match[1]), 0)
  const passed = lines(/^ +✔ /gm)
  const failed =
    lines(/^ +✘ /gm) + // tests, and files that did not load, had no tests or ended early
    lines(/^ +Failed to exit when running /gm) +
    sumOf('tests? remained pending') +
    sumOf('unhandled rejections?') +
    sumOf('uncaught exceptions?')
  return { passed, failed: exitCode !== 0 && failed === 0 ? 1 : failed }
}

/** What ava's default reporter says of the failures of one run: everything below the rule under its list of tests. */
export function whatFailed(output: string): string {
  return output.slice(output.indexOf('\n  ─\n') + 1)
}
