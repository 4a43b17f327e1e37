import { brotliCompressSync, gzipSync } from 'node:zlib'
import test from 'ava'
import { demoAddress, open } from './harness.ts'

const changed = (field: string, value: unknown) => ({ ...demoAddress, [field]: value })
const without = (field: string) => Object.fromEntries(Object.entries(demoAddress).filter(([name]) => name !== field))

const emoji = '👟'

test('addresses of any script, up to what the columns hold, are taken as they stand', async (t) => {
  const api = await open(t)
  const addresses = [
    changed('address_line1', emoji.repeat(255)),
    changed('address_line1', 'улица Пушкина, дом Колотушкина'),
    changed('city', '東京都'),
    changed('city', 'x'.repeat(128)),
    changed('address_line2', 'ز'.repeat(255)),
    changed('postcode', '0'.repeat(32)),
    changed('address_line1', ' . '),
  ]
  for (const body of addresses) {
    t.is((await api.checkout({ body })).status, 200)
    t.deepEqual(api.tables.intents.at(-1)!.address, body)
  }
})

test('address_line2 may be missing or null, the country in small letters, and unknown fields are ignored', async (t) => {
  const api = await open(t)
  for (const body of [
    without('address_line2'),
    changed('address_line2', null),
    changed('country', 'ie'),
    changed('country', 'iE'),
    { ...demoAddress, coupon: { code: ['X'] }, order_id: 1 },
  ]) {
    t.is((await api.checkout({ body })).status, 200)
    t.deepEqual(api.tables.intents.at(-1)!.address, demoAddress)
  }
})

const wrong: [string, unknown][] = [
  ['address_line1', ''],
  ['address_line1', 'x'.repeat(256)],
  ['address_line1', emoji.repeat(256)],
  ['address_line1', '   '],
  ['address_line1', '\u00a0\u3000\u200b\t\n'],
  ['address_line1', null],
  ['address_line1', 7],
  ['address_line1', 'a\0b'],
  ['address_line1', 'a\ud800b'],
  ['address_line2', 'x'.repeat(256)],
  ['address_line2', '\udfff'],
  ['address_line2', false],
  ['city', ''],
  ['city', 'x'.repeat(129)],
  ['city', '\0'],
  ['city', ' '],
  ['postcode', ''],
  ['postcode', 'x'.repeat(33)],
  ['postcode', '\ud83d'],
  ['postcode', '\u2060'],
  ['country', 'IRL'],
  ['country', 'I'],
  ['country', 'ÏE'],
  ['country', 'I1'],
  ['country', 'IE\n'],
  ['country', null],
]

for (const [field, value] of wrong) {
  test(`a ${field} of ${JSON.stringify(value).slice(0, 24)} (${String(value).length} long) is a 422 that names it`, async (t) => {
    const api = await open(t)
    const answer = await api.checkout({ body: changed(field, value) })
    t.is(answer.status, 422)
    t.regex(String(answer.body.detail), new RegExp(`^${field} `))
    t.is(api.tables.intents.length, 0)
  })
}

test('each required field that is missing is named', async (t) => {
  const api = await open(t)
  for (const field of ['address_line1', 'city', 'postcode', 'country']) {
    const answer = await api.checkout({ body: without(field) })
    t.is(answer.status, 422)
    t.is(answer.body.detail, `${field} is missing`)
  }
  t.is((await api.checkout({ body: {} })).body.detail, 'address_line1 is missing; city is missing; postcode is missing; country is missing')
})

for (const body of ['', '{', '{"city": }', 'null', '7', '"text"', '[]', '[{}]', '{"a":1} trailing', '\ufeff{']) {
  test(`a body of ${JSON.stringify(body)} is a 422`, async (t) => {
    const api = await open(t)
    const answer = await api.checkout({ body })
    t.is(answer.status, 422)
    t.is(typeof answer.body.detail, 'string')
    t.is(answer.headers.get('content-type'), 'application/json')
  })
}

test('an empty body is a 422 that says so', async (t) => {
  const api = await open(t)
  t.deepEqual((await api.checkout({ body: '' })).body, { detail: 'The body is empty' })
})

test('a body that is not UTF-8 is a 400 and never an address with question marks in it, whatever charset it claims', async (t) => {
  const api = await open(t)
  const body = Buffer.from(JSON.stringify({ ...demoAddress, city: 'D\xfcsseldorf' }), 'latin1')
  for (const headers of [{}, { 'content-type': 'application/json; charset=latin1' }, { 'content-type': '' }]) {
    const answer = await api.checkout({ body, headers: headers as Record<string, string> })
    t.is(answer.status, 400)
    t.deepEqual(answer.body, { detail: 'The body is not UTF-8' })
  }
  const packed = await api.checkout({ body: gzipSync(body), headers: { 'content-encoding': 'gzip' } })
  t.is(packed.status, 400)
  t.is(api.tables.intents.length, 0)
})

test('a replacement character in a body says that its bytes were lost before: it is refused like them', async (t) => {
  const api = await open(t)
  t.is((await api.checkout({ body: JSON.stringify(changed('city', 'D\ufffdsseldorf')) })).status, 400)
  t.is(api.tables.intents.length, 0)
})

test('a byte order mark before a body is passed over', async (t) => {
  const api = await open(t)
  t.is((await api.checkout({ body: `\ufeff${JSON.stringify(changed('city', 'Düsseldorf'))}` })).status, 200)
  t.is(api.tables.intents.at(-1)!.address.city, 'Düsseldorf')
})

test('a body of another content type is a 422; one without a content type, or of a +json type, is read', async (t) => {
  const api = await open(t)
  const body = JSON.stringify(demoAddress)
  for (const type of [
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/jsonx',
    'model/gltf+json',
    'application/json, text/plain',
    'nonsense',
  ]) {
    t.is((await api.checkout({ body, headers: { 'content-type': type } })).status, 422, type)
  }
  for (const type of [
    'application/json; charset=utf-8',
    'application/json; utf-8',
    'application/json;',
    'application/json; charset="',
    'Application/JSON',
    'application/vnd.shop+json',
    '',
  ]) {
    t.is((await api.checkout({ body, headers: { 'content-type': type } })).status, 200, type)
  }
})

test('a body that is too large is a 413, and compressing it does not help', async (t) => {
  const api = await open(t)
  const body = JSON.stringify({ ...demoAddress, note: 'x'.repeat(300_000) })
  t.is((await api.checkout({ body })).status, 413)
  const packed = await api.checkout({ body: gzipSync(body), headers: { 'content-encoding': 'gzip' } })
  t.is(packed.status, 413)
  t.is(typeof packed.body.detail, 'string')
})

test('a compressed body is read, its coding named in any case; a broken one, or one of an unknown coding, is a 422', async (t) => {
  const api = await open(t)
  const body = JSON.stringify(demoAddress)
  t.is((await api.checkout({ body: gzipSync(body), headers: { 'content-encoding': 'gzip' } })).status, 200)
  t.is((await api.checkout({ body: brotliCompressSync(body), headers: { 'content-encoding': 'br' } })).status, 200)
  for (const coding of ['GZIP', 'x-gzip', ' Gzip ']) {
    t.is((await api.checkout({ body: gzipSync(body), headers: { 'content-encoding': coding } })).status, 200, coding)
  }
  t.is((await api.checkout({ body, headers: { 'content-encoding': 'Identity' } })).status, 200)
  t.is((await api.checkout({ body: Buffer.from('no gzip'), headers: { 'content-encoding': 'gzip' } })).status, 422)
  t.is((await api.checkout({ body, headers: { 'content-encoding': 'rot13' } })).status, 422)
})
