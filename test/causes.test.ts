import test from 'ava'
import { ConnectionError } from 'slonik'
import { faultOf } from '../src/causes.ts'
import { NoAnswer } from '../src/clients/http.ts'
import { RowLocked } from '../src/db/locked.ts'
import { CATALOG_UNREACHABLE, StepFault } from '../src/processors/checkout-run.ts'
import { StockFault } from '../src/stock/group.ts'

const noAnswer = new NoAnswer('catalog reserve: no answer in 5000 ms', {
  sent: true,
  settlesAt: 0,
  fault: { cause: 'downstream-timeout', service: 'catalog' },
})

test('a fault of a downstream service is found behind the errors of stock calls and steps', (t) => {
  const stockFault = new StockFault('no answer', { sent: true, cause: noAnswer })
  t.deepEqual(faultOf(new StepFault('no answer', CATALOG_UNREACHABLE, { cause: stockFault })), {
    cause: 'downstream-timeout',
    service: 'catalog',
  })
})

test('a locked row, PostgreSQL and Redis that are away are causes of their own', (t) => {
  t.is(faultOf(new RowLocked('the row is locked')).cause, 'row-locked')
  t.is(faultOf(Object.assign(new Error('lock timeout'), { code: '55P03' })).cause, 'row-locked')
  t.is(faultOf(Object.assign(new Error('too many connections'), { code: '53300' })).cause, 'database-unavailable')
  t.is(faultOf(new ConnectionError('connect ECONNREFUSED')).cause, 'database-unavailable')
  t.is(faultOf(new Error('Command timed out')).cause, 'redis-unavailable')
})

test('any other error is a fault of our own, with at most ten lines of its stack', (t) => {
  const { cause, stack } = faultOf(new TypeError('x is not a function'))
  t.is(cause, 'internal-error')
  t.regex(stack!, /TypeError: x is not a function/)
  t.true(stack!.split('\n').length <= 10)
  const outer = new Error('the record was not confirmed', { cause: new Error('a bug for ada@example.com') })
  t.regex(faultOf(outer).stack!, /a bug for/, 'the stack is that of the error at the root')
  t.notRegex(faultOf(outer).stack!, /ada@example/)
})
