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

/** At most so many files are run again. More have a fault in common, and it is no matter of chance. */
const MOST_AGAIN = 5

/**
 * Tests that failed, and their files. Beside other files on two busy processors a test can fail that passes alone.
 * @param files all test files, as `test/db/pool.test.ts`
 * @returns undefined if none failed, too many did, or there is more than failed tests: a file that did not load, end or say why
 */
export function failedTests(output: string, files: readonly string[]): { titles: string[]; files: string[] } | undefined {
  const titles = [...output.matchAll(/^ +✘ \[fail\]: (.*)$/gm)].map(([, title]) => title!)
  const own = new Set(titles.map((title) => files.find((file) => title.startsWith(`${titleOf(file)} › `))))
  const isAll = titles.length > 0 && titles.length === tally(output, 1).failed
  if (!isAll || own.size > MOST_AGAIN || own.has(undefined)) return undefined
  return { titles, files: [...own] as string[] }
}

/** As ava's reporter begins the titles of a file. */
const titleOf = (file: string) =>
  file
    .replace(/^test\//, '')
    .replace(/\.test\.ts$/, '')
    .replaceAll('/', ' › ')
