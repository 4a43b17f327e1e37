/** The slowest test files, which start first in this order. Started last, they would leave the processors idle. */
const longest = [
  'service/progress.test.ts',
  'service/start.test.ts',
  'service/redis-cluster.test.ts',
  'service/redis-sentinel.test.ts',
  'stock/model/model.test.ts',
  'boundaries/reconciliation.test.ts',
  'boundaries/checkout.test.ts',
  'boundaries/payment.test.ts',
  'boundaries/stopped.test.ts',
  'torture/without.test.ts',
  'torture/campaign.test.ts',
  'browser/bulk.test.ts',
  'browser/quiet.test.ts',
]
const rank = (file) => {
  const at = longest.findIndex((end) => file.endsWith(end))
  return at === -1 ? longest.length : at
}

export default {
  files: ['test/**/*.test.ts'],
  extensions: ['ts'],
  workerThreads: false,
  // With 5, checkouts on two slow cores exceed their budgets. It is not faster, since 4 leave hardly any CPU idle.
  concurrency: 4,
  timeout: '120s',
  sortTestFiles: (a, b) => rank(a) - rank(b) || a.localeCompare(b),
}
