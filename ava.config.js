/** Those that take or wait the longest begin first, in this order: behind all others they would leave the processors idle. */
const longest = [
  'service/progress.test.ts',
  'service/start.test.ts',
  'service/redis-cluster.test.ts',
  'service/redis-sentinel.test.ts',
  'boundaries/mending.test.ts',
  'boundaries/checkout.test.ts',
  'boundaries/payment.test.ts',
  'boundaries/stopped.test.ts',
  'torture/without.test.ts',
  'torture/campaign.test.ts',
]
const place = (file) => {
  const at = longest.findIndex((end) => file.endsWith(end))
  return at === -1 ? longest.length : at
}

export default {
  files: ['test/**/*.test.ts'],
  extensions: ['ts'],
  workerThreads: false,
  // With 5, checkouts on two slow cores run out of their budgets; it is no quicker, since 4 leave hardly anything idle.
  concurrency: 4,
  timeout: '120s',
  sortTestFiles: (a, b) => place(a) - place(b) || a.localeCompare(b),
}
