/** How pages show a message: as text, as JSON, or as bytes; and the difference between the one that was sent and the one that was edited. */
import { type Change, diffLines, diffWordsWithSpace } from 'diff'
import type { Understood } from '../../operators/letter-verbs.ts'
import { textOf } from '../../operators/utf8.ts'
import { type Html, html, type Insert } from './html.ts'
import { HOME } from './layout.ts'

const SHOWN_CHARACTERS = 64 * 1024
const SHOWN_BYTES = 1024
/** A comparison blocks the process: after so long lines are compared in place of words, and then nothing is. */
const DIFF_MS = 100

/** A message of 6 kB that is nested 3,000 deep would become 18 MB. */
const DEEPEST = 100

/** Indented, or undefined if it is not JSON, or nested too deeply. Long numbers lose digits: the text has them. */
function prettyOf(text: string): string | undefined {
  let depth = 0
  for (const sign of text) {
    if (sign === '[' || sign === '{') depth += 1
    if (sign === ']' || sign === '}') depth -= 1
    if (depth > DEEPEST) return undefined
  }
  try {
    return JSON.stringify(JSON.parse(text), null, 2)
  } catch {
    return undefined
  }
}

const cut = (text: string) => (text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)} ...` : text)

/** Sixteen bytes a line: offset, hexadecimal, ASCII. */
function hexOf(bytes: Buffer): string {
  const lines = []
  for (let at = 0; at < Math.min(bytes.length, SHOWN_BYTES); at += 16) {
    const row = bytes.subarray(at, Math.min(at + 16, SHOWN_BYTES))
    const hex = [...row].map((byte) => byte.toString(16).padStart(2, '0')).join(' ')
    lines.push(`${at.toString(16).padStart(6, '0')}  ${hex.padEnd(47)}  ${row.toString('latin1').replace(/[^ -~]/g, '.')}`)
  }
  return `${lines.join('\n')}${bytes.length > SHOWN_BYTES ? '\n...' : ''}`
}

const block = (title: string, text: string): Html => html`<h3>${title}</h3><pre tabindex="0" aria-label="${title}">${cut(text)}</pre>`

/** @param mask takes out what the operator may not see. Bytes that are not text cannot be masked, and are shown without one only */
export function messageValue(value: Buffer | null, mask: ((text: string) => string) | undefined): Insert {
  if (value === null) return html`<p>The message has no value.</p>`
  const text = textOf(value)
  if (text === undefined) {
    if (mask) return html`<p>${value.length} bytes that are not text; accounts with the admin role see them.</p>`
    return [html`<p>The value is not UTF-8.</p>`, block('Bytes', hexOf(value)), block('Base64', value.toString('base64'))]
  }
  const shown = mask ? mask(text) : text
  const pretty = prettyOf(shown)
  return [block('Text', shown), pretty !== undefined && pretty !== shown && block('As JSON', pretty)]
}

/** Words where that is quick, else lines; undefined where both texts are too different to be compared in time. */
function changesBetween(sent: string, edited: string): Change[] | undefined {
  return diffWordsWithSpace(sent, edited, { timeout: DIFF_MS }) ?? diffLines(sent, edited, { timeout: DIFF_MS })
}

/** What was sent and what would be applied, in one text. Deletions and insertions are marked as such for screen readers too. */
export function difference(sent: string, edited: string): Html {
  const changes = changesBetween(sent, edited)
  if (!changes) return html`${block('Sent', sent)}${block('Edited', edited)}`
  if (changes.every(({ added, removed }) => !added && !removed)) return html`<p>The edited message is the one that was sent.</p>`
  return html`<pre tabindex="0" aria-label="Difference between the message as it was sent and as it was edited">${changes.map(shownChange)}</pre>`
}

/** An unchanged part of many characters is cut in its middle. */
const MOST_UNCHANGED = 2000

function shownChange({ added, removed, value }: Change): Insert {
  if (removed) return html`<del class="diff-old">${value}</del>`
  if (added) return html`<ins class="diff-new">${value}</ins>`
  return value.length > MOST_UNCHANGED ? `${value.slice(0, MOST_UNCHANGED / 2)} ... ${value.slice(-MOST_UNCHANGED / 2)}` : value
}

/** How the reader understands a message, or why it cannot. */
export function understoodFacts(understood: Understood): Html {
  if (!understood.isReadable) return html`<p class="fault">The reader refuses it: ${understood.reason}.</p>`
  const { type, orderId, amountCents, currency, provider, paymentId } = understood.event
  return html`<dl class="facts">
    <dt>Type</dt><dd>${type}</dd>
    <dt>Order</dt><dd><a href="${HOME}/orders/${orderId}">${orderId}</a></dd>
    <dt>Amount</dt><dd>${amountCents === null ? 'none' : `${amountCents} ${currency ?? 'without a currency'}, in cents`}</dd>
    <dt>Payment</dt><dd>${paymentId ?? 'no id'}${provider !== null && `, by ${provider}`}</dd>
  </dl>`
}
