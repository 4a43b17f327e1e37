/** The page of a cause: what is wrong, what waits because of it, and what can be done about all of it or some. */
import type { RouterInstance } from '@koa/router'
import type { Context, Middleware } from 'koa'
import {
  type Cause,
  causes,
  isCause,
  type ItemKind,
  sentenceOf,
  type ServiceName,
  services,
  type Verb,
  verbs,
  withService,
} from '../../causes.ts'
import { type ItemQuery, listItems } from '../../operators/items.ts'
import { maskEvidence } from '../../operators/mask.ts'
import type { Item } from '../../operators/orders.ts'
import type { Overviews } from '../../operators/overview.ts'
import type { Problem } from '../../operators/problems.ts'
import { Refusal } from '../refusal.ts'
import { type Html, html, type Insert } from './html.ts'
import { HOME, type OperatorRole, respond, roleOf } from './layout.ts'
import { actionLinks, isBulk, itemLink, manyOf, problemFacts, problemPath, runbookPath, severityTitles } from './problem-parts.ts'
import { liveAge, time } from './time.ts'

const ITEMS_A_PAGE = 50

export type ItemPage = Awaited<ReturnType<typeof listItems>>

export interface ProblemDeps {
  /** The items of a cause. */
  items(query: ItemQuery & { after?: string | undefined; limit: number }): Promise<ItemPage>
  overview: Overviews
}

interface Asked {
  cause: Cause
  service: ServiceName | null
  after: string | undefined
}

const single = (value: string | string[] | undefined): string => (typeof value === 'string' ? value : '')

/** @throws Refusal 404 for an unknown cause or service */
function askedOf(ctx: Context): Asked {
  const { cause = '' } = ctx.params as { cause?: string }
  const named = single(ctx.query.service)
  const service = services.find((one) => one === named) ?? null
  if (!isCause(cause) || (named !== '' && service === null)) throw new Refusal(404, 'The list of causes has no such cause')
  return { cause, service, after: single(ctx.query.after) || undefined }
}

/** The verbs that can act on selected items of this kind. */
const verbsOf = (cause: Cause, kind: ItemKind): Verb[] => causes[cause].actions.filter((verb) => isBulk(verb) && verbs[verb].item === kind)

/** What is known of a cause that nothing has at the moment. */
const notNow = ({ cause, service }: Asked): Html => html`<p class="well">This is not a problem at the moment.</p>
  <dl class="facts">
    <dt>When it is</dt><dd>${severityTitles[causes[cause].severity]}. ${withService(causes[cause].next, service)}</dd>
    <dt>Runbook</dt><dd><a href="${runbookPath(cause)}">${cause}</a></dd>
  </dl>`

function itemRow(item: Item, canSelect: boolean): Html {
  const { kind, id, orderId, since, attempts, evidence, nextTryAt } = item
  return html`<tr>
      ${canSelect && html`<td><input type="checkbox" name="item" value="${id}" aria-label="Select ${kind} ${id}"></td>`}
      <th scope="row">${itemLink(kind, id, orderId)}</th>
      <td data-label="Waits for">${liveAge(since)}</td>
      <td data-label="Attempts" class="numbers">${attempts ?? 'unknown'}</td>
      <td data-label="Evidence" class="evidence">${evidence}</td>
      <td data-label="Next try">${nextTryAt ? time(nextTryAt) : 'none is known'}</td>
    </tr>`
}

function itemTable(items: readonly Item[], canSelect: boolean): Html {
  const selectAll = html`<label class="select-all" hidden><input type="checkbox" data-select-all> Select all on this page</label>`
  return html`<table>
    <caption>The longest wait first${canSelect && selectAll}</caption>
    <thead><tr>${canSelect && html`<th scope="col">Selected</th>`}<th scope="col">Item</th><th scope="col">Waits for</th><th scope="col" class="numbers">Attempts</th><th scope="col">Evidence</th><th scope="col">Next try</th></tr></thead>
    <tbody>${items.map((item) => itemRow(item, canSelect))}</tbody>
  </table>`
}

const selectionButtons = (offered: readonly Verb[]): Html =>
  html`<div class="actions">${offered.map((verb) => html`<button name="verb" value="${verb}">${verbs[verb].title}: the selected ones</button>`)}</div>`

/** A plain form, so that selecting works without JavaScript. */
function itemSections({ items, next }: ItemPage, asked: Asked, role: OperatorRole): Insert {
  if (items.length === 0) return html`<section aria-label="Items"><p>No item waits because of it.</p></section>`
  const path = problemPath(asked.cause, asked.service)
  const nextPath = next !== null && `${path}${asked.service === null ? '?' : '&'}${new URLSearchParams({ after: next })}`
  const byKind = [...Map.groupBy(items, ({ kind }) => kind)]
  return [
    ...byKind.map(([kind, those]) => kindSection(kind, those, role === 'admin' ? verbsOf(asked.cause, kind) : [])),
    nextPath && html`<p><a href="${nextPath}" rel="next">Next page</a></p>`,
    asked.after !== undefined && html`<p><a href="${path}">First page</a></p>`,
  ]
}

/** A form of its own for each kind, since a verb acts on items of one kind. */
function kindSection(kind: ItemKind, items: readonly Item[], offered: readonly Verb[]): Html {
  const table = itemTable(items, offered.length > 0)
  return html`<section aria-labelledby="items-${kind}">
    <h2 id="items-${kind}">What waits: ${manyOf(kind)}</h2>
    ${offered.length > 0 ? html`<form action="${HOME}/actions/new">${table}${selectionButtons(offered)}</form>` : table}
  </section>`
}

const problemSection = (
  problem: Problem,
  role: OperatorRole,
): Html => html`<section aria-label="Problem" class="problem severity-${problem.severity}">
    <p><span class="severity">${severityTitles[problem.severity]}</span></p>
    ${problemFacts(problem)}
    ${actionLinks(problem, role)}
  </section>`

/** Items may wait for their retry although the fault is over: then they can be acted on too. */
function pastSection(asked: Asked, { items }: ItemPage, role: OperatorRole): Html {
  const { cause, service } = asked
  const links = items.length > 0 && actionLinks({ cause, service, actions: causes[cause].actions }, role)
  return html`<section aria-label="Problem">${notNow(asked)}${links}</section>`
}

async function showProblem(ctx: Context, { items, overview }: ProblemDeps): Promise<void> {
  const asked = askedOf(ctx)
  const { cause, service } = asked
  const [all, found] = await Promise.all([overview.problems(), items({ ...asked, limit: ITEMS_A_PAGE })])
  const role = roleOf(ctx)
  const visible = <Shown extends { evidence: string }>(shown: readonly Shown[]) => (role === 'admin' ? [...shown] : shown.map(maskEvidence))
  // Several queues may be paused.
  const problems = visible(all.filter((one) => one.cause === cause && one.service === service))
  const page: ItemPage = { ...found, items: visible(found.items) }
  respond(ctx, {
    title: problems[0]?.sentence ?? sentenceOf(cause, service),
    isLive: true,
    data: { cause, service, problems, ...page },
    content: () => [
      problems.length > 0 ? problems.map((problem) => problemSection(problem, role)) : pastSection(asked, page, role),
      itemSections(page, asked, role),
    ],
  })
}

/** @param guarded the middleware of a session */
export function addProblemPages(router: RouterInstance, guarded: readonly Middleware[], deps: () => ProblemDeps): void {
  router.get('/problems/:cause', ...guarded, (ctx) => showProblem(ctx, deps()))
}
