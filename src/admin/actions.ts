/** The commands for actions: list, show, pause, resume and abort. */
import { verbs } from '../causes.ts'
import type { Action, ActionItem } from '../operators/action.ts'
import { type Command, type Group, UsageError } from './command.ts'
import { AT_COMMAND_LINE, recordedBy, recordOptions } from './operator.ts'
import { cut, safe, safeJson, shownTime, table } from './shown.ts'

const LIST_LIMIT = 100
const ITEMS_SHOWN = 100
const LIST_WIDTH = 60

export const actions: Group = {
  list: {
    usage: 'list [--json]',
    about: `Lists the latest ${LIST_LIMIT} actions of operators: who did what, when and why.`,
    options: { json: { type: 'boolean' } },
    prepare({ values, positionals }) {
      if (positionals.length > 0) throw new UsageError(`list takes no argument ${JSON.stringify(positionals[0])}`)
      return async (tools) => {
        const found = await (await tools.actions()).list({ limit: LIST_LIMIT })
        if (values.json) tools.print(safeJson(found))
        else tools.print(found.length === 0 ? 'There are no actions yet.' : table([heading, ...found.map(row)]))
        return true
      }
    },
  },

  show: {
    usage: 'show ID [--json]',
    about: 'Shows one action with its progress and its first results, failed ones first.',
    options: { json: { type: 'boolean' } },
    prepare({ values, positionals }) {
      const id = idOf(positionals)
      return async (tools) => {
        const all = await tools.actions()
        const action = await all.read(id)
        if (!action) {
          process.stderr.write(`There is no action ${id}\n`)
          return false
        }
        const failed = action.failed > 0 ? await all.items(id, { limit: ITEMS_SHOWN, result: 'failed' }) : []
        const others = await all.items(id, { limit: ITEMS_SHOWN })
        const items = [...failed, ...others.filter(({ result }) => result !== 'failed')].slice(0, ITEMS_SHOWN)
        tools.print(values.json ? safeJson({ ...action, results: items }) : actionText(action, items))
        return true
      }
    },
  },

  pause: changing('pause', 'PAUSED', 'Pauses a running action: its remaining items wait until it is resumed.'),
  resume: changing('resume', 'RUNNING', 'Continues a paused action.'),
  abort: changing('abort', 'ABORTED', 'Ends an action. Its remaining items stay as they are, and it cannot be resumed.'),
}

function changing(name: string, to: 'PAUSED' | 'RUNNING' | 'ABORTED', about: string): Command {
  return {
    usage: `${name} ID [--reason TEXT] [--operator NAME] [--json]`,
    about,
    options: { ...recordOptions, json: { type: 'boolean' } },
    prepare({ values, positionals }) {
      const id = idOf(positionals)
      const by = recordedBy(values, AT_COMMAND_LINE)
      return async (tools) => {
        const action = await (await tools.actions()).change(id, to, by)
        tools.print(values.json ? safeJson(action) : actionText(action, []))
        return true
      }
    },
  }
}

function idOf([text, ...others]: readonly string[]): number {
  if (text === undefined) throw new UsageError('The id of the action is missing; order-admin actions list shows the ids')
  if (others.length > 0) throw new UsageError('Too many ids; write one')
  const id = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(id)) throw new UsageError(`${JSON.stringify(text)} is not the id of an action`)
  return id
}

const heading = ['ID', 'AT', 'STATE', 'ACTION', 'OPERATOR', 'DONE', 'CHANGED', 'FAILED', 'SELECTION', 'REASON']
const row = (action: Action) => [
  String(action.id),
  shownTime(action.createdAt),
  action.state,
  action.verb,
  safe(action.operator),
  `${action.done}/${action.items}`,
  String(action.changed),
  String(action.failed),
  cut(safe(JSON.stringify(action.selection)), LIST_WIDTH),
  cut(safe(action.reason), LIST_WIDTH),
]

/** An action in full, with some of its results. */
export function actionText(action: Action, items: readonly ActionItem[]): string {
  const rate = action.perSecond === null ? '' : `, ${action.perSecond} a second`
  return table([
    ['action', String(action.id)],
    ['state', action.state],
    ['what', `${action.verb}: ${verbs[action.verb]?.does ?? ''}`],
    ['on', cut(safe(JSON.stringify(action.selection)), 200)],
    ['operator', safe(action.operator)],
    ['reason', safe(action.reason)],
    ['progress', `${action.done} of ${action.items}${rate}: ${action.changed} changed, ${action.failed} failed`],
    ['began', shownTime(action.createdAt)],
    ...(action.endedAt ? [['ended', shownTime(action.endedAt)]] : []),
    ...items.map(({ item, result, detail }) => [String(item), `${result ?? 'to do'}${detail === null ? '' : `: ${safe(detail)}`}`]),
  ])
}
