/** Sees to it that `wrk`, which makes the load of the benchmarks, is on PATH. */
import { find, install } from './install.ts'
import { toTerminal } from './report.ts'

if (!find('wrk') && !(await install(toTerminal, 'wrk', ['wrk']))) {
  console.error('wrk is missing and cannot be installed here: install it (https://github.com/wg/wrk)')
  process.exitCode = 1
}
