/** The servers the tests run on: that they come back, that they end with whoever started them, and that nothing else is ended. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import { Worker } from 'node:worker_threads'
import test, { type ExecutionContext } from 'ava'
import { Redis } from 'ioredis'
import { query } from './database.ts'
import { allOrNone } from './services/all-or-none.ts'
import { startPostgres, startRedis } from './services/index.ts'
import { freePort } from './services/ports.ts'
import { commandLine, start } from './services/processes.ts'
import { claim } from './services/state.ts'
import { failedTests, tally, whatFailed } from './services/tally.ts'
import { until } from './until.ts'

test('a Redis that is killed answers again on its port after a restart', async (t) => {
  const redis = await startRedis({ name: nameFor(t, 'killed') })
  t.teardown(redis.stop)
  t.is(await ask(redis.url), 'PONG')
  const before = redis.pid

  await redis.kill()

  t.is(commandLine(before), '')
  await t.throwsAsync(ask(redis.url))
  await redis.restart()
  t.is(await ask(redis.url), 'PONG')
  t.not(redis.pid, before)
})

test('a PostgreSQL that is killed has its data after a restart', async (t) => {
  const postgres = await startPostgres({ name: 'own-postgres' })
  t.teardown(postgres.stop)
  await query(postgres.dsn, 'create table kept as select 42 as answer')

  await postgres.kill()
  await postgres.restart()

  t.deepEqual(await query(postgres.dsn, 'select answer from kept'), [{ answer: 42 }])
})

test('a server that comes up beside one that does not is ended', async (t) => {
  const starting = startRedis({ name: nameFor(t, 'beside') })

  await t.throwsAsync(allOrNone({ redis: starting, other: Promise.reject(new Error('no room for it')) }), { message: 'no room for it' })

  const { pid } = await starting
  t.is(commandLine(pid), '')
})

test('a server ends when the process that started it is killed', async (t) => {
  const services = pathToFileURL(join(import.meta.dirname, 'services', 'index.ts')).href
  const program = `
    const { startRedis } = await import('${services}')
    const { pid } = await startRedis({ name: '${nameFor(t, 'orphan')}' })
    console.log(pid)`
  const parent = spawn(process.execPath, ['--input-type=module', '--eval', program], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [pid] = await once(createInterface(parent.stdout), 'line')
  t.regex(commandLine(Number(pid)), /redis/)

  parent.kill('SIGKILL')

  await until(() => commandLine(Number(pid)) === '')
  t.pass()
})

test('a server that outlived its supervisor is ended by the next run', async (t) => {
  const name = nameFor(t, 'leftover')
  const first = await startRedis({ name })
  const supervisor = Number(spawnSync('ps', ['-o', 'ppid=', '-p', String(first.pid)], { encoding: 'utf8' }).stdout)
  t.regex(commandLine(supervisor), /supervisor/)
  process.kill(supervisor, 'SIGKILL')
  await first.stop()
  t.regex(commandLine(first.pid), /redis/)

  const second = await startRedis({ name })
  t.teardown(second.stop)

  t.is(commandLine(first.pid), '')
  t.is(await ask(second.url), 'PONG')
})

test('a process that has the id of a former server is left alone', async (t) => {
  const stranger = await start({ command: [process.execPath, '--eval', 'setInterval(() => {}, 1000)'] })
  t.teardown(stranger.end)
  const name = nameFor(t, 'stranger')
  const held = await claim(name)
  const note = { pid: stranger.pid, commandLine: 'redis-server --port 1', stopSignal: 'SIGKILL', graceMs: 0 }
  writeFileSync(join(held.directory, 'redis.pid'), JSON.stringify(note))
  await held.release()

  const redis = await startRedis({ name })
  await redis.stop()

  t.not(commandLine(stranger.pid), '')
})

test('two runs at a time have a state directory each', async (t) => {
  const name = nameFor(t, 'twice')
  const first = await claim(name)
  const second = await claim(name)
  t.is(second.directory, `${first.directory}-2`)
  t.teardown(() => rmSync(second.directory, { recursive: true }))

  await first.release()
  const third = await claim(name)

  t.is(third.directory, first.directory)
  await Promise.all([second.release(), third.release()])
})

test('two processes never get ports of one block, even where both begin at the same one', async (t) => {
  const ports = new URL('services/ports.ts', import.meta.url)
  const code = `import { parentPort } from 'node:worker_threads'
    import { freePort } from '${ports}'
    parentPort.ref() // a thread that ended would give its block back
    parentPort.postMessage(await freePort())`
  // Threads have the process id in common, by which a block is chosen, and no module.
  const threads = [1, 2, 3].map(() => new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`)))
  const handedOut = await Promise.all(threads.map(async (thread) => (await once(thread, 'message'))[0] as number))
  await Promise.all(threads.map((thread) => thread.terminate()))

  const blocks = handedOut.map((port) => Math.floor(port / 400))
  t.is(new Set(blocks).size, 3, blocks.join())
})

test('a port is handed out again only after hundreds of others: who got it may not listen there yet', async (t) => {
  const ports: number[] = []
  for (let i = 0; i < 300; i++) ports.push(await freePort())
  t.is(new Set(ports).size, 300)
})

test('the tally takes its failures from the end of the reporter’s output', (t) => {
  t.is(whatFailed('  ✔ a › fine\n  ✘ [fail]: a › bad\n  ─\n\n  a › bad\n  why\n'), '  ─\n\n  a › bad\n  why\n')
})

test('a run that is worthless counts as failed', (t) => {
  t.deepEqual(tally('  ✔ a › fine\n  ✔ b › fine (1.2s)\n\n  2 tests passed\n', 0), { passed: 2, failed: 0 })
  t.deepEqual(tally('  ✔ a › fine\n  ✘ [fail]: a › bad\n\n  1 test failed\n', 1), { passed: 1, failed: 1 })
  t.deepEqual(tally('  ✔ a › fine\n\n  1 uncaught exception\n  2 unhandled rejections\n', 1), { passed: 1, failed: 3 })
  t.deepEqual(tally('  ✔ a › fine\n\n  Failed to exit when running test/a.test.ts\n', 1), { passed: 1, failed: 1 })
  t.deepEqual(tally('  ✘ No tests found in test/a.test.ts\n', 1), { passed: 0, failed: 1 })
  t.deepEqual(tally('', 137), { passed: 0, failed: 1 })
})

test('failed tests are run again if they are few and all that failed', (t) => {
  const files = ['test/a.test.ts', 'test/b/a.test.ts', 'test/b/c.test.ts']
  const failed = '  ✔ a › fine\n  ✘ [fail]: a › bad and why\n  ✘ [fail]: b › c › bad\n  ✘ [fail]: b › c › worse\n'
  t.deepEqual(failedTests(failed, files), {
    titles: ['a › bad and why', 'b › c › bad', 'b › c › worse'],
    files: ['test/a.test.ts', 'test/b/c.test.ts'],
  })
  t.is(failedTests(`${failed}\n  1 uncaught exception\n`, files), undefined)
  t.is(failedTests(`${failed}  ✘ No tests found in test/d.test.ts\n`, files), undefined)
  t.is(failedTests('  ✘ [fail]: d › of an unknown file\n', files), undefined)
  t.is(failedTests('  ✔ a › fine\n', files), undefined)
  const many = Array.from({ length: 6 }, (_, i) => `many-${i}`)
  t.is(
    failedTests(
      many.map((name) => `  ✘ [fail]: ${name} › bad\n`).join(''),
      many.map((name) => `test/${name}.test.ts`),
    ),
    undefined,
  )
})

/** A state directory of its own for the test, gone after it. */
function nameFor(t: ExecutionContext, what: string): string {
  const name = `own-${what}-${process.pid}`
  t.teardown(async () => {
    const held = await claim(name) // ends what the test has left
    rmSync(held.directory, { recursive: true })
    await held.release()
  })
  return name
}

async function ask(url: string): Promise<string> {
  const client = new Redis(url, { lazyConnect: true, retryStrategy: null })
  client.on('error', () => {}) // connect() rejects as well
  try {
    await client.connect()
    return await client.ping()
  } finally {
    client.disconnect()
  }
}
