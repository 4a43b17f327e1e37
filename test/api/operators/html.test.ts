import test from 'ava'
import { html } from '../../../src/api/operators/html.ts'

test('a value in an HTML template is escaped unless it is HTML already', (t) => {
  const hostile = `"><script>alert('&')</script>`
  const escaped = '&quot;&gt;&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;'
  t.is(String(html`<p title="${hostile}">${hostile}</p>`), `<p title="${escaped}">${escaped}</p>`)
  t.is(String(html`<ul>${[1, 2].map((n) => html`<li>${n}</li>`)}${['<', [html`<b>`]]}</ul>`), '<ul><li>1</li><li>2</li>&lt;<b></ul>')
})

test('an absent value in an HTML template prints nothing, and zero prints 0', (t) => {
  t.is(String(html`${false}${true}${null}${undefined}${''}${0}`), '0')
})

test('data shaped like HTML is not treated as HTML', (t) => {
  const isShaped = (json: string) => JSON.parse(json) as string
  t.is(String(html`${isShaped('{"isEscaped":true,"text":"<script>"}')}`), '[object Object]')
  t.is(String(html`${isShaped('["<script>"]')}`), '&lt;script&gt;')
  t.throws(() => html`${isShaped('{"isEscaped":true,"callbacks":[]}')}`, { message: /promise/ })
  t.throws(() => html`${isShaped('{"isEscaped":true,"toString":"<script>"}')}`)
})

test('a promise in an HTML template is refused', (t) => {
  t.throws(() => html`${Promise.resolve('later') as unknown as string}`, { message: /promise/ })
})
