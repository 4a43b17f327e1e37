import test from 'ava'
import { SchemaValidationError, sql } from 'slonik'
import { z } from 'zod'
import { readPostgresDsn } from '../../src/config/postgres-dsn.ts'
import { connectPool, sqlState } from '../../src/db/pool.ts'
import { reasonOf } from '../../src/telemetry/error-fields.ts'
import { createLogger } from '../../src/telemetry/logger.ts'
import { createDatabase } from '../support/database.ts'

/** Stands for what a customer sent; no log may have any part of it. */
const SENT = 'ada@example.com of 1 Demo Street'

function logged(error: unknown): { line: string; err: Record<string, unknown> } {
  let line = ''
  createLogger('info', { write: (text) => void (line += text) }).warn({ err: error }, 'it failed')
  return { line, err: JSON.parse(line).err }
}

function shows(t: { false(value: boolean, message?: string): void }, error: unknown, title: string) {
  const { line } = logged(error)
  for (const part of ['ada@', 'Demo', 'Street']) t.false(line.includes(part), `${title}: ${line}`)
  t.false(/ada@|Demo|Street/.test(reasonOf(error)), `${title}: ${reasonOf(error)}`)
}

/** An error as a library makes one: its first frame is outside of src/. */
const foreign = (message: string, fields: object = {}) => Object.assign(new Error(message), fields)

test('whatever an error of a library carries, a log shows none of the bytes that a customer sent', (t) => {
  const circle = foreign(SENT)
  circle.cause = circle
  const thrown = (run: () => unknown): unknown => {
    try {
      return run()
    } catch (error) {
      return error
    }
  }
  class Renamed extends Error {}
  const renamed = new Renamed('later')
  renamed.message = SENT
  const unstacked = foreign(SENT)
  unstacked.stack = `Error: ${SENT}\n  Caused by: Error: ${SENT}\n    at ${SENT}\n    at run (file:///app/lib.js:1:1)`
  const odd: Record<string, unknown> = {
    'a message': foreign(SENT),
    'a message with lines like a stack': foreign(`x\n    at ${new URL('../../src/main.ts', import.meta.url).href}:1:1\n    at ${SENT}`),
    'a stack of its own making': unstacked,
    'a name': foreign('x', { name: SENT }),
    'a code': foreign('x', { code: SENT }),
    'a cause': new Error('x', { cause: new Error(SENT, { cause: new Error(SENT) }) }),
    'a cause that is text': new Error('x', { cause: SENT }),
    'an error that is its own cause': circle,
    'a group of errors': new AggregateError([foreign(SENT, { body: SENT }), SENT, { text: SENT }], SENT),
    'a method toJSON': foreign('x', { toJSON: () => ({ text: SENT }) }),
    'a buffer': foreign('x', { body: Buffer.from(SENT), code: Buffer.from(SENT) }),
    'a message changed later': renamed,
    'the fields of a refusal by PostgreSQL': foreign(`invalid input syntax for type integer: "${SENT}"`, {
      severity: 'ERROR',
      code: '22P02',
      detail: SENT,
      where: SENT,
      hint: SENT,
      parameters: [SENT],
    }),
    'the text of a trigger': foreign(`order of ${SENT} refused`, { severity: 'ERROR', code: 'P0001' }),
    'a statement of slonik': new SchemaValidationError({ sql: SENT, values: [SENT] } as never, { email: SENT } as never, []),
    'a command of Redis': foreign(`ERR unknown command, with args beginning with: '${SENT}'`, {
      name: 'ReplyError',
      command: { name: 'hvals', args: [`cart:${SENT}`] },
    }),
    'a message for Kafka': foreign(`Invalid message without value for topic "x": {"email":"${SENT}"}`, {
      name: 'KafkaJSNonRetriableError',
    }),
    'an answer over HTTP': foreign('x', { response: { data: SENT }, config: { data: SENT }, request: { body: SENT } }),
    'JSON that is none': thrown(() => JSON.parse(SENT)),
    'a number that is none': thrown(() => BigInt(SENT)),
    'a URL that is none': thrown(() => new URL(SENT)),
    'rows of zod': thrown(() => z.object({ email: z.literal('x') }).parse({ email: SENT })),
    'an operator on text': Object.assign(new TypeError(`Cannot use 'in' operator to search for 'x' in ${SENT}`), {
      stack: `TypeError\n    at run (${new URL('../../src/main.ts', import.meta.url).href}:1:1)`,
    }),
    text: SENT,
    'an object': { message: SENT },
    nothing: undefined,
  }
  for (const [title, error] of Object.entries(odd)) shows(t, error, title)
})

test('of an error of ours a log shows the message, and of any other its kind, its code and its places', (t) => {
  const ours = t.throws(() => readPostgresDsn('postgresql://db/shop?sslmode=prefer'))
  t.is(logged(ours).err.message, ours.message)
  const { err } = logged(foreign(SENT, { code: 'E_ODD' }))
  t.like(err, { name: 'Error', code: 'E_ODD', message: undefined })
  t.regex(String(err.stack), /^Error\n {4}at foreign \(.*logger\.test\.ts:\d+:\d+\)\n/)
  t.is(reasonOf(foreign(SENT, { code: 'E_ODD' })), 'E_ODD')
})

test('what PostgreSQL refuses is shown by its code alone, and a statement that it does not understand by its words', async (t) => {
  const database = await createDatabase({ migrated: false })
  t.teardown(database.drop)
  const pool = await connectPool(database.dsn, { size: 1, logger: createLogger('silent') })
  t.teardown(() => pool.end())
  const rows = JSON.stringify([{ email: SENT, n: SENT }])
  const email = z.object({ email: z.int() })
  const refused = {
    'a row of a batch': [sql.unsafe`select * from jsonb_to_recordset(${rows}::jsonb) as t (email text, n int)`, '22P02'],
    'JSON that is none': [sql.unsafe`select ${SENT}::jsonb`, '22P02'],
    'a duplicate': [sql.unsafe`select ${SENT}::text as email union all select 1 / 0`, '42804'],
    'a row that is not as we think': [sql.type(email)`select ${SENT} as email`, undefined],
  } as const
  for (const [title, [statement, state]] of Object.entries(refused)) {
    const error = await t.throwsAsync(pool.any(statement))
    shows(t, error, title)
    t.is(sqlState(error), state, title)
  }
  const { err } = logged(await t.throwsAsync(pool.query(sql.unsafe`select from nothing`)))
  t.regex(JSON.stringify(err), /relation \\"nothing\\" does not exist/)
})
