/** Pages of dead letters: what waits by cause, and one letter, which may be replayed, edited or discarded. */
import type { RouterInstance } from '@koa/router'
import type { Context, Middleware } from 'koa'
import { isCause } from '../../causes.ts'
import type { Pool } from '../../db/pool.ts'
import { type DeadLetterFault, deadLetterFaults } from '../../model.ts'
import { MOST_EDITED_BYTES, understand } from '../../operators/letter-verbs.ts'
import { letterGroups, listLetters, type LetterView, viewLetter } from '../../operators/letter-view.ts'
import { maskText, maskTexts } from '../../operators/mask.ts'
import { textOf } from '../../operators/utf8.ts'
import { Refusal } from '../refusal.ts'
import { valueOf } from './action-fields.ts'
import type { ActionDeps } from './actions.ts'
import { readFields } from './request-fields.ts'
import { html } from './html.ts'
import { respond, roleOf } from './layout.ts'
import { confirmEdit, groupsTable, letterPage, lettersSection } from './letter-parts.ts'
import { difference, understoodFacts } from './message-parts.ts'
import { idOf, numberOf } from './parameters.ts'
import { adminsOnly } from './session.ts'

const LETTERS_A_PAGE = 50

export interface LetterDeps extends ActionDeps {
  read(): Promise<Pool>
}

const states = ['WAITING', 'REPLAYED', 'DISCARDED'] as const
const isFault = (text: unknown): text is DeadLetterFault => typeof text === 'string' && Object.hasOwn(deadLetterFaults, text)
const maskFor = (ctx: Context) => (roleOf(ctx) === 'admin' ? undefined : maskText)

async function showLetters(ctx: Context, { read }: LetterDeps): Promise<void> {
  const { cause, fault, state, after } = ctx.query
  const query = {
    ...(typeof cause === 'string' && isCause(cause) && { cause }),
    ...(isFault(fault) && { fault }),
    state: states.find((one) => one === state) ?? 'WAITING',
    after: numberOf(after),
  }
  const pool = await read()
  const isAdmin = roleOf(ctx) === 'admin'
  const [groups, found] = await Promise.all([letterGroups(pool), listLetters(pool, { ...query, limit: LETTERS_A_PAGE })])
  const page = isAdmin ? found : maskTexts(found)
  respond(ctx, {
    title: 'Dead letters',
    isLive: true,
    data: { groups, ...page },
    content: () => html`${groups.length === 0 ? html`<p class="well">No dead letter waits for a person.</p>` : groupsTable(groups, isAdmin)}
      ${lettersSection(page, query, isAdmin)}`,
  })
}

async function viewOf(ctx: Context, { read, actions }: LetterDeps): Promise<LetterView> {
  const id = idOf(ctx)
  const view = await viewLetter(await read(), actions, id)
  if (!view) throw new Refusal(404, `There is no dead letter ${id}`)
  return roleOf(ctx) === 'admin' ? view : maskTexts(view) // key, value and headers are bytes: see `bytesOf`
}

/** Bytes as a program gets them: text where they are UTF-8, else base64. Support gets no bytes that cannot be masked. */
function bytesOf(bytes: Buffer | null, mask: ReturnType<typeof maskFor>): object | null {
  if (bytes === null) return null
  const text = textOf(bytes)
  if (text !== undefined) return { text: mask ? mask(text) : text }
  return mask ? { bytes: bytes.length } : { base64: bytes.toString('base64') }
}

async function showLetter(ctx: Context, deps: LetterDeps): Promise<void> {
  const view = await viewOf(ctx, deps)
  const { letter, payment } = view
  const mask = maskFor(ctx)
  const { key, value, headers, offset, editedValue, ...rest } = letter
  respond(ctx, {
    title: `Dead letter ${letter.id}`,
    // Its payment is followed until it is applied, or dead again. A page with a form that is filled in does not change.
    isLive: payment?.state === 'WAITING',
    data: {
      ...view,
      letter: {
        ...rest,
        offset: String(offset),
        key: bytesOf(key, mask),
        value: bytesOf(value, mask),
        ...(editedValue && { editedValue: bytesOf(editedValue, mask) }),
        headers: headers.map(([name, bytes]) => [name, bytesOf(bytes, mask)]),
      },
    },
    content: () => letterPage(view, { isAdmin: roleOf(ctx) === 'admin', mask }),
  })
}

/** Shows what an edit changes and how it would be read. Nothing is changed by it. */
async function previewEdit(ctx: Context, deps: LetterDeps): Promise<void> {
  const value = valueOf(await readFields(ctx))
  if (value === undefined) throw new Refusal(422, 'The edited message is missing')
  if (value.length > MOST_EDITED_BYTES) throw new Refusal(422, 'The edited message is larger than 1 MiB')
  const { letter } = await viewOf(ctx, deps)
  const understood = understand({ ...letter, value })
  const edited = textOf(value)
  const sent = letter.value === null ? '' : letter.value.toString()
  respond(ctx, {
    title: `Edit of dead letter ${letter.id}`,
    data: { letter: letter.id, understood },
    content: () => html`<section aria-labelledby="difference">
        <h2 id="difference">What was sent, and what you changed</h2>
        ${edited === undefined ? html`<p>The edited message is not text.</p>` : difference(sent, edited)}
      </section>
      <section aria-labelledby="read"><h2 id="read">How the edited message is read</h2>${understoodFacts(understood)}</section>
      ${confirmEdit(letter, edited ?? '', understood.isReadable)}`,
  })
}

/** @param guarded the middleware of a session */
export function addDeadLetterPages(router: RouterInstance, guarded: readonly Middleware[], deps: () => LetterDeps): void {
  router.get('/dead-letters', ...guarded, (ctx) => showLetters(ctx, deps()))
  router.get('/dead-letters/:id', ...guarded, (ctx) => showLetter(ctx, deps()))
  router.post('/dead-letters/:id/preview', ...guarded, adminsOnly, (ctx) => previewEdit(ctx, deps()))
}
