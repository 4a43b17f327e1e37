/** How pages show dead letters. */
import { causes, type Cause, type Verb, verbs } from '../../causes.ts'
import type { DeadLetter } from '../../db/dead-letters.ts'
import { MOST_COUNTED } from '../../db/waiting-counts.ts'
import type { LetterGroup, LetterListQuery, LetterPage, LetterView } from '../../operators/letter-view.ts'
import { MOST_EDITED_BYTES } from '../../operators/letter-verbs.ts'
import { actionPath } from './request-fields.ts'
import { textOf } from '../../operators/utf8.ts'
import { type Html, html, type Insert } from './html.ts'
import { HOME } from './layout.ts'
import { messageValue, understoodFacts } from './message-parts.ts'
import { grouped, runbookPath } from './problem-parts.ts'
import { liveAge, time } from './time.ts'

const LETTERS = `${HOME}/dead-letters`

/** What can be done about letters of a cause. An edit begins at its letter. */
const verbsOf = (cause: Cause): Verb[] => causes[cause].actions.filter((verb) => verbs[verb].item === 'letter')
const bulkVerbs: readonly Verb[] = ['replay-letters', 'discard-letters']

export function groupsTable(groups: readonly LetterGroup[], isAdmin: boolean): Html {
  const ofCause = [...new Set(groups.map(({ cause }) => cause))]
  const buttons = (cause: Cause) =>
    verbsOf(cause)
      .filter((verb) => bulkVerbs.includes(verb))
      .map(
        (verb) =>
          html`<li><a class="button" href="${HOME}/actions/new?${new URLSearchParams({ verb, cause }).toString()}">${verbs[verb].title}: all of this cause</a></li>`,
      )
  return html`<section aria-labelledby="causes">
    <h2 id="causes">What waits for a person</h2>
    ${ofCause.map((cause) => {
      const own = groups.filter((group) => group.cause === cause)
      return html`<section class="problem severity-${causes[cause].severity}">
        <h3>${causes[cause].sentence}</h3>
        <table>
          <thead><tr><th scope="col">Fault</th><th scope="col" class="numbers">Letters</th><th scope="col">Oldest</th><th scope="col">What usually helps</th></tr></thead>
          <tbody>${own.map(
            ({ fault, count, oldest, remedy }) => html`<tr>
              <th scope="row"><a href="${LETTERS}?${new URLSearchParams({ fault }).toString()}">${fault}</a></th>
              <td class="numbers">${count > MOST_COUNTED ? `more than ${grouped.format(MOST_COUNTED)}` : grouped.format(count)}</td>
              <td>${liveAge(oldest)}</td>
              <td>${remedy}</td>
            </tr>`,
          )}</tbody>
        </table>
        <p><a href="${runbookPath(cause)}">Runbook</a></p>
        ${isAdmin && html`<ul class="actions" aria-label="Actions">${buttons(cause)}</ul>`}
      </section>`
    })}
  </section>`
}

const stateTitles: Record<DeadLetter['state'], string> = { WAITING: 'Waiting', REPLAYED: 'Replayed', DISCARDED: 'Discarded' }

export function lettersSection({ letters, next }: LetterPage, query: Omit<LetterListQuery, 'limit'>, isAdmin: boolean): Html {
  const { state = 'WAITING', cause, fault } = query
  const search = (more: Record<string, string>) =>
    new URLSearchParams({ ...(cause && { cause }), ...(fault && { fault }), state, ...more }).toString()
  const filters = (Object.keys(stateTitles) as DeadLetter['state'][]).map(
    (one) =>
      html`<li><a href="${LETTERS}?${search({ state: one })}"${one === state && html` aria-current="true"`}>${stateTitles[one]}</a></li>`,
  )
  const canSelect = isAdmin && state === 'WAITING' && letters.length > 0
  const table = lettersTable(letters, canSelect)
  const buttons = bulkVerbs.map((verb) => html`<button name="verb" value="${verb}">${verbs[verb].title}: the selected ones</button>`)
  return html`<section aria-labelledby="letters">
    <h2 id="letters">${stateTitles[state]} letters${(fault ?? cause) !== undefined && `: ${fault ?? cause}`}</h2>
    <ul class="actions" aria-label="Show">${filters}</ul>
    ${letters.length === 0 && html`<p>None.</p>`}
    ${letters.length > 0 && (canSelect ? html`<form action="${HOME}/actions/new">${table}<div class="actions">${buttons}</div></form>` : table)}
    ${next !== null && html`<p><a href="${LETTERS}?${search({ after: String(next) })}" rel="next">Next page</a></p>`}
    ${(fault ?? cause ?? query.after) !== undefined && html`<p><a href="${LETTERS}">All dead letters</a></p>`}
  </section>`
}

function lettersTable(letters: LetterPage['letters'], canSelect: boolean): Html {
  const selectAll = html`<label class="select-all" hidden><input type="checkbox" data-select-all> Select all on this page</label>`
  return html`<table>
    <caption>The oldest first${canSelect && selectAll}</caption>
    <thead><tr>${canSelect && html`<th scope="col">Selected</th>`}<th scope="col">Letter</th><th scope="col">Order</th><th scope="col">Fault</th><th scope="col">Why</th><th scope="col" class="numbers">Times</th><th scope="col">Last</th></tr></thead>
    <tbody>${letters.map(
      ({ id, order_id: orderId, fault, reason, times, last_at: lastAt }) => html`<tr>
        ${canSelect && html`<td><input type="checkbox" name="item" value="${id}" aria-label="Select dead letter ${id}"></td>`}
        <th scope="row"><a href="${LETTERS}/${id}">${id}</a></th>
        <td>${orderId === null ? 'unknown' : html`<a href="${HOME}/orders/${orderId}">${orderId}</a>`}</td>
        <td>${fault}</td>
        <td class="evidence">${reason}</td>
        <td class="numbers">${times}</td>
        <td>${time(lastAt)}</td>
      </tr>`,
    )}</tbody>
  </table>`
}

/** Where it stands, in a sentence. */
function summary({ letter, payment }: LetterView): Insert {
  if (letter.state === 'DISCARDED') return html`<p>It was discarded at ${time(letter.lastAt)}: ${letter.note}</p>`
  if (letter.state === 'WAITING') return html`<p class="problem severity-person">It waits for a person: ${letter.reason}.</p>`
  if (!payment) return html`<p>It was replayed at ${time(letter.lastAt)}.</p>`
  const order = html`<a href="${HOME}/orders/${payment.orderId}">order ${payment.orderId}</a>`
  if (payment.state === 'WAITING')
    return html`<p>It was replayed at ${time(letter.lastAt)}. Payment ${payment.eventId} of ${order} is not applied yet${payment.lastError !== undefined && `: ${payment.lastError}`}. A worker retries it.</p>`
  const results = { paid: 'is PAID by it', 'already-paid': 'was already paid', recorded: 'is unchanged: a failed payment is recorded' }
  return html`<p class="well">It was applied: ${order} ${payment.result && results[payment.result]}.</p>`
}

interface PageOptions {
  isAdmin: boolean
  mask: ((text: string) => string) | undefined
}

export function letterPage(view: LetterView, { isAdmin, mask }: PageOptions): Html {
  const { letter, remedy, understood } = view
  const isPruned = letter.prunedAt !== undefined
  return html`${summary(view)}
    ${letter.state === 'WAITING' && html`<p>What usually helps: ${remedy}.</p>`}
    ${isAdmin && letter.state === 'WAITING' && letterButtons(view)}
    ${facts(view)}
    <section aria-labelledby="message">
      <h2 id="message">The message, as it was sent</h2>
      ${isPruned ? html`<p>Its bytes were pruned at ${time(letter.prunedAt!)}.</p>` : messageValue(letter.value, mask)}
      ${!isPruned && headers(letter, mask)}
    </section>
    ${
      letter.editedValue &&
      html`<section aria-labelledby="edited">
      <h2 id="edited">The message, as it was edited and applied last</h2>
      <p>A replay applies this one again. To apply another, edit it.</p>
      ${messageValue(letter.editedValue, mask)}
    </section>`
    }
    <section aria-labelledby="read"><h2 id="read">How it is read</h2>${isPruned ? html`<p>It was pruned.</p>` : understoodFacts(understood)}</section>
    ${isAdmin && letter.state === 'WAITING' && editForm(letter)}
    ${history(view)}`
}

function letterButtons({ letter, cause }: LetterView): Html {
  const link = (verb: Verb) =>
    verb === 'edit-letter'
      ? html`<li><a class="button" href="#edit">${verbs[verb].title}</a></li>`
      : html`<li><a class="button" href="${HOME}/actions/new?${new URLSearchParams({ verb, item: String(letter.id) }).toString()}">${verbs[verb].title}</a></li>`
  return html`<ul class="actions" aria-label="Actions">${verbsOf(cause).map(link)}</ul>`
}

const facts = ({ letter, cause }: LetterView): Html => html`<dl class="facts">
  <dt>Cause</dt><dd><a href="${runbookPath(cause)}">${cause}</a>, ${letter.fault}</dd>
  <dt>Why</dt><dd class="evidence">${letter.reason}</dd>
  <dt>Order</dt><dd>${letter.orderId === undefined ? 'unknown' : html`<a href="${HOME}/orders/${letter.orderId}">${letter.orderId}</a>`}</dd>
  <dt>Dead letter</dt><dd>${letter.times === 1 ? 'once' : `${letter.times} times`}, first ${time(letter.firstAt)}, last ${time(letter.lastAt)}</dd>
  <dt>Source</dt><dd>${letter.topic}, partition ${letter.partition}, offset ${String(letter.offset)}, sent ${time(letter.sentAt)}</dd>
  <dt>Dead-letter topic</dt><dd>${letter.publishedAt ? html`published ${time(letter.publishedAt)}` : 'not published yet'}</dd>
</dl>`

function headers({ key, headers: all }: DeadLetter, mask: PageOptions['mask']): Html {
  const shown = (bytes: Buffer | null) => {
    if (bytes === null) return 'none'
    const text = textOf(bytes)
    if (text === undefined) return mask ? `${bytes.length} bytes` : `base64: ${bytes.toString('base64')}`
    return mask ? mask(text) : text
  }
  return html`<h3>Key and headers</h3>
    <dl class="facts"><dt>Key</dt><dd>${shown(key)}</dd>${all.map(([name, value]) => html`<dt>${name}</dt><dd>${shown(value)}</dd>`)}</dl>`
}

const crlf = (text: string) => /\r\n/.test(text) && html`<input type="hidden" name="ends" value="crlf">`

function editForm({ id, value }: DeadLetter): Html {
  if (value !== null && value.length > MOST_EDITED_BYTES) return html`<p class="note">It is larger than 1 MiB, and cannot be edited.</p>`
  const text = value === null ? '' : value.toString()
  const isText = value === null || textOf(value) !== undefined
  // A browser drops a line end right after the tag.
  return html`<section aria-labelledby="edit">
    <h2 id="edit">Edit</h2>
    <form method="post" action="${LETTERS}/${id}/preview">
      <p>The message as it was sent stays on record. You see the difference before anything is applied.</p>
      ${!isText && html`<p class="note">The message is not UTF-8: what cannot be read is shown as \uFFFD.</p>`}
      ${crlf(text)}
      <label for="text">Message</label>
      <textarea id="text" name="text" rows="12" spellcheck="false" required>${'\n'}${text}</textarea>
      <button>Show the difference</button>
    </form>
  </section>`
}

/** @param text the edited message */
export function confirmEdit({ id }: DeadLetter, text: string, canApply: boolean): Html {
  const back = html`<p><a href="${LETTERS}/${id}">Back to dead letter ${id}</a></p>`
  if (!canApply) return html`<p>It cannot be applied. Go back and edit it again; nothing was changed.</p>${back}`
  return html`<form method="post" action="${HOME}/actions">
      <p>This ${verbs['edit-letter'].does}.</p>
      <input type="hidden" name="verb" value="edit-letter">
      <input type="hidden" name="item" value="${id}">
      ${crlf(text)}
      <textarea name="text" hidden aria-label="The edited message">${'\n'}${text}</textarea>
      <label for="reason">Reason, for the record</label>
      <input id="reason" name="reason" maxlength="1000" required autocomplete="off">
      <button>Apply the edited message</button>
    </form>
    ${back}`
}

const history = ({ history: all }: LetterView): Html => html`<section aria-labelledby="history">
  <h2 id="history">What people did</h2>
  ${all.length === 0 && html`<p>Nothing yet.</p>`}
  <ol class="timeline">${all.map(
    ({ id, verb, operator, reason, createdAt, detail }) =>
      html`<li>${time(createdAt)}: <a href="${actionPath(id)}">${verbs[verb].title}</a> by ${operator} (${reason})${detail !== null && `: ${detail}`}</li>`,
  )}</ol>
</section>`
