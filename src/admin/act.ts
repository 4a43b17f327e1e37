/** `act`: carries out any action of the operators' pages. */
import { causes, isCause, type ServiceName, services, verbs } from '../causes.ts'
import type { ActionRequest, Selection } from '../operators/action.ts'
import { isVerb } from '../operators/check-action.ts'
import { actionText } from './actions.ts'
import { type Command, type Given, msOf, UsageError } from './command.ts'
import { recordedBy, recordOptions } from './operator.ts'
import { untilDone } from './replay.ts'
import { safeJson } from './shown.ts'

/** Verbs with a command of their own, or that need more than this command line has. */
const elsewhere = new Set([
  'edit-letter',
  'drain',
  'repair-counters',
  'retry-jobs',
  'promote-jobs',
  'pause-action',
  'resume-action',
  'abort-action',
])
const offered = Object.keys(verbs).filter((verb) => !elsewhere.has(verb))

export const act: Command = {
  usage: 'VERB (ID... | --cause C [--service S] | [--queue] NAME) --reason TEXT [--rate N] [--wait SECONDS] [--operator NAME] [--json]',
  about: `Acts on the items ID..., on all items that have the cause now, or on a queue. VERB is one of ${offered.join(', ')}.
      More than 20 items become a job of the workers. --rate: how many items a second (default 50).
      --wait: waits up to so many seconds for the end of the job.`,
  options: {
    ...recordOptions,
    cause: { type: 'string' },
    service: { type: 'string' },
    queue: { type: 'string' },
    rate: { type: 'string' },
    wait: { type: 'string' },
    json: { type: 'boolean' },
  },
  prepare({ values, positionals }) {
    const request = requestOf(values, positionals)
    const waitMs = msOf('--wait', values.wait) ?? 0
    return async (tools) => {
      const actions = await tools.actions()
      const begun = await actions.act(request)
      const isDone = begun.state === 'DONE' || waitMs === 0 || (await untilDone(actions, begun, performance.now() + waitMs))
      const action = (await actions.read(begun.id)) ?? begun
      const items = begun.state === 'DONE' ? await actions.items(begun.id, { limit: 20 }) : []
      tools.print(values.json ? safeJson({ ...action, results: items }) : actionText(action, items))
      return isDone && action.failed === 0
    }
  },
}

function requestOf(values: Given['values'], [verb, ...ids]: readonly string[]): ActionRequest {
  if (verb === undefined || !isVerb(verb) || elsewhere.has(verb))
    throw new UsageError(
      `${verb === undefined ? 'The action is missing' : `${JSON.stringify(verb)} is no action`}; write one of ${offered.join(', ')}`,
    )
  const rate = values.rate === undefined ? {} : { perSecond: wholeNumber('--rate', String(values.rate)) }
  return { verb, selection: selectionOf(values, ids, verbs[verb].item), ...recordedBy(values), ...rate }
}

function selectionOf({ cause, service, queue }: Given['values'], ids: readonly string[], item: string): Selection {
  const given = [ids.length > 0, cause !== undefined, queue !== undefined].filter(Boolean).length
  if (item === 'service') {
    if (given > 0) throw new UsageError('This action concerns the whole service; leave out ID, --cause and --queue')
    return {}
  }
  if (item === 'queue' && (given !== 1 || ids.length > 1 || cause !== undefined)) throw new UsageError('Name one queue')
  if (item !== 'queue' && (given !== 1 || queue !== undefined)) throw new UsageError('Write either ids or --cause')
  if (queue !== undefined || item === 'queue') return { queue: String(queue ?? ids[0]) }
  if (cause === undefined) return { items: ids.map((id) => wholeNumber('ID', id)) }
  if (!isCause(String(cause)))
    throw new UsageError(`--cause: ${JSON.stringify(cause)} is no cause; write one of ${Object.keys(causes).join(', ')}`)
  if (service !== undefined && !services.includes(service as ServiceName))
    throw new UsageError(`--service: write one of ${services.join(', ')}`)
  return { cause: cause as keyof typeof causes, service: (service as ServiceName | undefined) ?? null }
}

function wholeNumber(option: string, text: string): number {
  const number = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(number) || number < 1)
    throw new UsageError(`${option}: ${JSON.stringify(text)} is not a positive whole number`)
  return number
}
