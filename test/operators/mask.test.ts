/** What support sees of texts that others wrote. */
import test from 'ava'
import { maskText, maskTexts } from '../../src/operators/mask.ts'

test('every email in a text is masked, also one whose @ is escaped', (t) => {
  t.is(maskText('<ada@example.com>, "bob@x.org"'), '<a***@example.com>, "b***@x.org"')
  t.is(maskText('{"by": "ada\\u0040example.com"}'), '{"by": "a***@example.com"}')
  t.is(maskText('/users/ada%40example.com'), '/***@example.com')
  t.is(maskText('no @ email, a@ or @b'), 'no @ email, a@ or @b')
})

test('a word of a megabyte takes no time', (t) => {
  const began = performance.now()
  const word = 'a'.repeat(1024 * 1024)
  t.is(maskText(`${word} ada@example.com`), `${word} a***@example.com`)
  t.true(performance.now() - began < 1000)
})

test('all texts of a value are masked, and bytes and times stay', (t) => {
  const value = Buffer.from('ada@example.com')
  const at = new Date()
  t.deepEqual(maskTexts({ at, value, n: 1n, none: null, list: [{ reason: 'ada@example.com' }] }), {
    at,
    value,
    n: 1n,
    none: null,
    list: [{ reason: 'a***@example.com' }],
  })
})
