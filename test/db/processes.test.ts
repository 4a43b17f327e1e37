/** What processes report of themselves, as a process of another version reads it. */
import test from 'ava'
import { connectPool, type Pool } from '../../src/db/pool.ts'
import { readProcesses } from '../../src/db/processes.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createDatabase, query } from '../support/database.ts'

let database: Awaited<ReturnType<typeof createDatabase>>
let pool: Pool
test.before(async () => {
  database = await createDatabase()
  pool = await connectPool(database.dsn, { size: 1, logger: createLogger('silent') })
})
test.after.always(async () => {
  await pool?.end()
  await database?.drop()
})

test('a worker of another version runs, though its status cannot be read', async (t) => {
  await query(
    database.dsn,
    `insert into order_service.processes (process, roles, started_at, seen_at, status)
     values ('new', '{worker}', now(), now(), '{"failures": [{"cause": "a-cause-of-tomorrow"}]}')`,
  )
  const [found] = await readProcesses(pool)
  t.like(found, { process: 'new', roles: ['worker'] })
  t.deepEqual(found?.status.failures, [])
})
