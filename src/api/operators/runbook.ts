/** The page of the runbook: docs/runbook.md as HTML, so that a problem's link leads to what to do, also when the repository is far. */
import { readFile } from 'node:fs/promises'
import { raw } from 'hono/html'
import { Marked, type Tokens } from 'marked'
import { type Html, html } from './html.ts'

/** The anchor that GitHub gives to a heading. */
const anchorOf = (heading: string): string =>
  heading
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replaceAll(' ', '-')

const withoutTags = (text: string): string => text.replace(/<[^>]*>/g, '')

const marked = new Marked({
  gfm: true,
  renderer: {
    heading({ tokens, depth, text }) {
      if (depth === 1) return '' // the page has it
      return String(html`<h${depth} id="${anchorOf(text.replaceAll('`', ''))}">${raw(this.parser.parseInline(tokens))}</h${depth}>\n`)
    },
    /** Other pages of docs/ are not served: their name is shown instead of a link that leads nowhere. */
    link({ href, tokens }: Tokens.Link) {
      const text = this.parser.parseInline(tokens)
      const isHere = href.startsWith('#') || href.startsWith('https://')
      if (isHere) return String(html`<a href="${href}">${raw(text)}</a>`)
      return withoutTags(text) === href.split('#')[0] ? text : String(html`${raw(text)} (docs/${href})`)
    },
    html: ({ text }) => String(html`${text}`),
  },
})

/** `raw` is right here alone: the text is a file of this repository, and its own HTML is escaped nevertheless. */
export async function readRunbook(): Promise<Html> {
  const text = await readFile(new URL('../../../docs/runbook.md', import.meta.url), 'utf8')
  return raw(await marked.parse(text))
}
