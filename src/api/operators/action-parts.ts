/** How pages show an action: its facts, its progress, its results. */
import { isCause, type ItemKind, sentenceOf, verbs } from '../../causes.ts'
import type { Action, ActionItem, Selection } from '../../operators/action.ts'
import { actionPath } from './request-fields.ts'
import { type Html, html, type Insert } from './html.ts'
import { HOME } from './layout.ts'
import { grouped, itemLink, manyOf, problemPath } from './problem-parts.ts'
import { liveAge, time } from './time.ts'

const named = new Set<ItemKind>(['queue', 'service'])

/** What an action acts on, for people. */
export function selectionInWords(selection: Selection, kind: ItemKind): Insert {
  if ('cause' in selection) {
    const { cause, service } = selection
    const sentence = isCause(cause) ? sentenceOf(cause, service) : cause
    return html`all ${manyOf(kind)}: <a href="${problemPath(cause, service)}">${sentence}</a>`
  }
  if ('queue' in selection) {
    const { queue, job, jobs } = selection
    return `the queue ${queue}${job === undefined ? '' : `, job ${job}`}${jobs === undefined ? '' : `, all ${jobs} jobs`}`
  }
  if (!('items' in selection)) return 'the whole service'
  const [first, ...others] = selection.items
  if (first === undefined) return 'nothing'
  return others.length === 0 ? nameOf(kind, first) : `${grouped.format(selection.items.length)} selected ${manyOf(kind)}`
}

function nameOf(kind: ItemKind, item: number): Insert {
  if (named.has(kind) || item === 0) return kind === 'queue' ? 'the queue' : 'the service'
  return kind === 'action' ? html`<a href="${actionPath(item)}">action ${item}</a>` : itemLink(kind, item, null)
}

const stateTitles: Record<Action['state'], string> = { RUNNING: 'runs', PAUSED: 'is paused', ABORTED: 'was aborted', DONE: 'is done' }

export const actionsTable = (actions: readonly Action[]): Html => html`<table>
  <caption>The latest first</caption>
  <thead><tr><th scope="col">Action</th><th scope="col">When</th><th scope="col">Who</th><th scope="col">On</th><th scope="col">State</th><th scope="col" class="numbers">Changed</th><th scope="col" class="numbers">Failed</th><th scope="col">Why</th></tr></thead>
  <tbody>${actions.map((action) => {
    const { id, verb, createdAt, operator, selection, state, items, done, changed, failed, reason } = action
    return html`<tr>
      <th scope="row"><a href="${actionPath(id)}">${id}: ${verbs[verb].title}</a></th>
      <td>${time(createdAt)}</td>
      <td>${operator}</td>
      <td>${selectionInWords(selection, verbs[verb].item)}</td>
      <td>${stateTitles[state]}${state !== 'DONE' && html`, ${grouped.format(done)} of ${grouped.format(items)}`}</td>
      <td class="numbers">${grouped.format(changed)}</td>
      <td class="numbers">${grouped.format(failed)}</td>
      <td>${reason}</td>
    </tr>`
  })}</tbody>
</table>`

export function progress({ state, items, done, changed, failed, perSecond, endedAt }: Action): Html {
  const [all, known, left] = [items, done, items - done].map((number) => grouped.format(number))
  const numbers = `${known} of ${all} done: ${grouped.format(changed)} changed, ${grouped.format(done - changed - failed)} unchanged, ${grouped.format(failed)} failed`
  const seconds = perSecond === null ? 0 : Math.ceil((items - done) / perSecond)
  const rest = () => {
    if (state === 'RUNNING')
      return html` ${left} left, ${perSecond} a second: about ${seconds < 120 ? `${seconds} seconds` : `${Math.round(seconds / 60)} minutes`}.`
    if (state !== 'DONE') return html` ${left} are left as they are.`
    return done < items && html` What became of ${left} is not known: the process ended before it was recorded.`
  }
  return html`<section aria-label="Progress">
    ${perSecond !== null && html`<progress max="${items}" value="${done}" aria-label="Items done">${known} of ${all}</progress>`}
    <p>The action ${stateTitles[state]}${endedAt && html` (${time(endedAt)})`}. ${numbers}.${rest()}</p>
  </section>`
}

/** What may be done with an action that has not ended, for a reason. */
export function changeButtons({ id, state }: Action): Insert {
  const offered = state === 'RUNNING' ? ['pause', 'abort'] : state === 'PAUSED' ? ['resume', 'abort'] : []
  if (offered.length === 0) return null
  const titles: Record<string, string> = { pause: 'Pause', resume: 'Resume', abort: 'Abort' }
  const buttons = offered.map((to) => html`<button formaction="${actionPath(id)}/${to}">${titles[to]}</button>`)
  return html`<form method="post">
    <label for="reason">Reason, for the record</label>
    <input id="reason" name="reason" maxlength="1000" required autocomplete="off">
    <div class="actions">${buttons}</div>
  </form>`
}

export const actionFacts = ({ verb, selection, operator, reason, createdAt, endedAt, perSecond }: Action): Html => html`<dl class="facts">
  <dt>What</dt><dd>It ${verbs[verb].does}.</dd>
  <dt>On</dt><dd>${selectionInWords(selection, verbs[verb].item)}</dd>
  <dt>Who</dt><dd>${operator}</dd>
  <dt>Why</dt><dd>${reason}</dd>
  <dt>When</dt><dd>${time(createdAt)}, ${liveAge(createdAt)} ago${endedAt && html`; ended ${time(endedAt)}`}</dd>
  ${perSecond !== null && html`<dt>Rate</dt><dd>up to ${perSecond} items a second</dd>`}
</dl>`

const resultTitles = { changed: 'Changed', unchanged: 'Unchanged', failed: 'Failed', left: 'Left' }

interface ResultsOptions {
  result: keyof typeof resultTitles | undefined
  next: number | null
}

export function resultsSection({ id, verb, items }: Action, shown: readonly ActionItem[], { result, next }: ResultsOptions): Html {
  const path = actionPath(id)
  const kind = verbs[verb].item
  const filters = ['all', ...Object.keys(resultTitles)].map((one) => {
    const isCurrent = one === (result ?? 'all')
    const title = one === 'all' ? 'All' : resultTitles[one as keyof typeof resultTitles]
    return html`<li><a href="${path}?result=${one}"${isCurrent && html` aria-current="true"`}>${title}</a></li>`
  })
  return html`<section aria-labelledby="results">
    <h2 id="results">Results</h2>
    ${items > 1 && html`<ul class="actions" aria-label="Show">${filters}</ul>`}
    ${shown.length === 0 ? html`<p>None.</p>` : resultsTable(kind, shown)}
    ${next !== null && html`<p><a href="${path}?${new URLSearchParams({ result: result ?? 'all', after: String(next) }).toString()}" rel="next">Next page</a></p>`}
    <p><a href="${HOME}/actions">All actions</a></p>
  </section>`
}

const resultsTable = (kind: ItemKind, shown: readonly ActionItem[]): Html => html`<table>
  <thead><tr><th scope="col">Item</th><th scope="col">Result</th><th scope="col">What became of it</th><th scope="col">When</th></tr></thead>
  <tbody>${shown.map(
    ({ item, result, detail, at }) => html`<tr>
      <th scope="row">${nameOf(kind, item)}</th>
      <td>${result ?? 'to do'}</td>
      <td>${detail}</td>
      <td>${at && time(at)}</td>
    </tr>`,
  )}</tbody>
</table>`
