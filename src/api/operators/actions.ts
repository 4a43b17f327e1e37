/** Pages of operators' actions: begin one, follow it, and see who did what, when and why. */
import type { RouterInstance } from '@koa/router'
import type { Context, Middleware } from 'koa'
import { verbs } from '../../causes.ts'
import {
  type Action,
  type ActionItem,
  type Actions,
  AT_ONCE,
  MOST_PER_SECOND,
  type Selection,
  USUAL_PER_SECOND,
} from '../../operators/action.ts'
import { maskTexts } from '../../operators/mask.ts'
import { Refusal } from '../refusal.ts'
import { rateOf, selectionOf, verbOf } from './action-fields.ts'
import { actionFacts, actionsTable, changeButtons, progress, resultsSection, selectionInWords } from './action-parts.ts'
import { actionPath, type Fields, operatorOf, readFields, refusedActions, textField } from './request-fields.ts'
import { type Html, html } from './html.ts'
import { HOME, respond, roleOf, wantsHtml } from './layout.ts'
import { grouped, itemLink, manyOf } from './problem-parts.ts'
import { idOf, numberOf } from './parameters.ts'
import { adminsOnly } from './session.ts'

const ACTIONS_A_PAGE = 50
const ITEMS_A_PAGE = 100
const SAMPLE = 10

export interface ActionDeps {
  actions: Actions
}

/** Emails are for admins: those of operators, and those that they typed into reasons. */
const shownTo = <Shown>(ctx: Context, shown: Shown): Shown => (roleOf(ctx) === 'admin' ? shown : maskTexts(shown))

async function showActions(ctx: Context, { actions }: ActionDeps): Promise<void> {
  const before = numberOf(ctx.query.before)
  const found = await actions.list({ before, limit: ACTIONS_A_PAGE + 1 })
  const shown: Action[] = shownTo(ctx, found.slice(0, ACTIONS_A_PAGE))
  const next = found.length > ACTIONS_A_PAGE ? shown.at(-1)!.id : null
  respond(ctx, {
    title: 'Actions',
    isLive: before === undefined,
    data: { actions: shown, next },
    content: () => html`${shown.length === 0 ? html`<p>No operator has done anything yet.</p>` : actionsTable(shown)}
      ${next !== null && html`<p><a href="${HOME}/actions?before=${next}" rel="next">Older actions</a></p>`}
      ${before !== undefined && html`<p><a href="${HOME}/actions">Latest actions</a></p>`}`,
  })
}

/** What will happen, before anything does. */
async function showNew(ctx: Context, { actions }: ActionDeps): Promise<void> {
  const fields = ctx.query as Fields
  const verb = verbOf(fields)
  const selection = selectionOf(fields)
  if (verb === 'edit-letter' && 'items' in selection) return ctx.redirect(`${HOME}/dead-letters/${selection.items[0]}#edit`)
  const { does, title, item } = verbs[verb]
  const [count, sample] = await Promise.all([actions.count(verb, selection), actions.sample(verb, selection, SAMPLE)])
  respond(ctx, {
    title,
    data: { verb, does, selection, count, sample },
    content: () => {
      if (count === 0)
        return html`<p>There is nothing to act on: no item is in this state any more.</p><p><a href="${HOME}">Overview</a></p>`
      const links = sample.map((id) => html`<li>${itemLink(item, id, null)}</li>`)
      const many = sample.length === 0 ? '' : `${grouped.format(count)} ${manyOf(item)}`
      return html`<p>This ${does}.</p>
        <dl class="facts"><dt>On</dt><dd>${selectionInWords(selection, item)}</dd>${many && html`<dt>Items</dt><dd>${many}</dd>`}</dl>
        ${links.length > 0 && html`<ul aria-label="The first items">${links}</ul>`}
        ${newForm(verb, title, selection, count)}`
    },
  })
}

function newForm(verb: string, title: string, selection: Selection, count: number): Html {
  const hidden = (name: string, value: string | number) => html`<input type="hidden" name="${name}" value="${value}">`
  const selected = () => {
    if ('items' in selection) return selection.items.map((id) => hidden('item', id))
    if ('cause' in selection) return [hidden('cause', selection.cause), hidden('service', selection.service ?? '')]
    return 'queue' in selection ? hidden('queue', selection.queue) : null
  }
  const rate = html`<label for="rate">Items a second, up to ${MOST_PER_SECOND}</label>
    <input id="rate" name="perSecond" type="number" min="1" max="${MOST_PER_SECOND}" value="${USUAL_PER_SECOND}" required>`
  return html`<form method="post" action="${HOME}/actions">
    ${hidden('verb', verb)}${selected()}
    ${count > AT_ONCE && rate}
    <label for="reason">Reason, for the record</label>
    <input id="reason" name="reason" maxlength="1000" required autocomplete="off">
    <button>${title}</button>
  </form>`
}

async function begin(ctx: Context, { actions }: ActionDeps): Promise<void> {
  const fields = await readFields(ctx)
  const perSecond = rateOf(fields)
  const request = { verb: verbOf(fields), selection: selectionOf(fields), reason: textField(fields, 'reason'), ...operatorOf(ctx) }
  const action = await actions.act({ ...request, ...(perSecond !== undefined && { perSecond }) })
  const [only] = 'items' in request.selection ? request.selection.items : []
  const isOfLetter = request.verb === 'edit-letter' || (request.verb === 'replay-letters' && action.items === 1)
  // The letter's page follows its payment until it is applied, or dead again.
  answerWith(ctx, action, isOfLetter && action.changed > 0 && only !== undefined ? `${HOME}/dead-letters/${only}` : undefined, 201)
}

/** Browsers are led to the action's page; programs get the action. */
function answerWith(ctx: Context, action: Action, path = actionPath(action.id), status = 200): void {
  if (wantsHtml(ctx)) {
    ctx.status = 303
    return ctx.redirect(path)
  }
  ctx.status = status
  ctx.set('Location', actionPath(action.id))
  ctx.body = action
}

const results = ['failed', 'unchanged', 'changed', 'left'] as const

/** Failed items first: they are what a person has to see. */
async function showAction(ctx: Context, { actions }: ActionDeps): Promise<void> {
  const id = idOf(ctx)
  const found = await actions.read(id)
  if (!found) throw new Refusal(404, `There is no action ${id}`)
  const action = shownTo(ctx, found)
  const asked = results.find((one) => one === ctx.query.result)
  const result = asked ?? (ctx.query.result === undefined && action.failed > 0 ? 'failed' : undefined)
  const query = { after: numberOf(ctx.query.after), result: result === 'left' ? null : result }
  const items = await actions.items(id, { ...query, limit: ITEMS_A_PAGE + 1 })
  const shown: ActionItem[] = shownTo(ctx, items.slice(0, ITEMS_A_PAGE))
  const next = items.length > ITEMS_A_PAGE ? shown.at(-1)!.item : null
  respond(ctx, {
    title: `${verbs[action.verb].title}: action ${id}`,
    isLive: action.state === 'RUNNING' || action.state === 'PAUSED',
    data: { ...action, results: shown, next },
    content: () => html`${progress(action)}
      ${roleOf(ctx) === 'admin' && changeButtons(action)}
      ${actionFacts(action)}
      ${resultsSection(action, shown, { result, next })}`,
  })
}

const states = { pause: 'PAUSED', resume: 'RUNNING', abort: 'ABORTED' } as const

const change =
  (to: keyof typeof states) =>
  async (ctx: Context, { actions }: ActionDeps): Promise<void> => {
    const fields = await readFields(ctx)
    const reason = textField(fields, 'reason')
    answerWith(ctx, await actions.change(idOf(ctx), states[to], { ...operatorOf(ctx), reason }))
  }

/** @param guarded the middleware of a session */
export function addActionPages(router: RouterInstance, guarded: readonly Middleware[], deps: () => ActionDeps): void {
  const acting = [...guarded, adminsOnly, refusedActions]
  router.get('/actions', ...guarded, (ctx) => showActions(ctx, deps()))
  router.get('/actions/new', ...acting, (ctx) => showNew(ctx, deps()))
  router.post('/actions', ...acting, (ctx) => begin(ctx, deps()))
  router.get('/actions/:id', ...guarded, (ctx) => showAction(ctx, deps()))
  for (const to of Object.keys(states) as (keyof typeof states)[]) {
    router.post(`/actions/:id/${to}`, ...acting, (ctx) => change(to)(ctx, deps()))
  }
}
