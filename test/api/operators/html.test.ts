import test from 'ava'
import { html } from '../../../src/api/operators/html.ts'

test('a value in an HTML template is escaped unless it is HTML already', (t) => {
  const hostile = `"><script>alert('&')</script>`
  const escaped = '&quot;&gt;&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;'
  t.is(html`<p title="${hostile}">${hostile}</p>`.text, `<p title="${escaped}">${escaped}</p>`)
  t.is(html`<ul>${[1, 2].map((n) => html`<li>${n}</li>`)}${['<', [html`<b>`]]}</ul>`.text, '<ul><li>1</li><li>2</li>&lt;<b></ul>')
})

test('an absent value in an HTML template prints nothing, and zero prints 0', (t) => {
  t.is(html`${false}${null}${undefined}${''}${0}`.text, '0')
})

test('an object shaped like HTML is not treated as HTML', (t) => {
  t.throws(() => html`${{ text: '<script>' } as unknown as string}`)
})
