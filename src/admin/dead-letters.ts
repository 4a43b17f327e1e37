/** The commands for dead letters: list, show, replay, edit and discard. */
import { readFile } from 'node:fs/promises'
import { countLetters, listLetters, readLetter } from '../db/dead-letters.ts'
import { type Group, msOf, UsageError } from './command.ts'
import { letterInWords } from '../operators/letter-verbs.ts'
import { forJson, listHeading, listRow, shown } from './letter.ts'
import { AT_COMMAND_LINE, recordedBy, recordOptions } from './operator.ts'
import { replay } from './replay.ts'
import { safe, safeJson, table } from './shown.ts'

const LIST_LIMIT = 1000
const WAIT_S = 15

export const deadLetters: Group = {
  list: {
    usage: 'list [--all] [--json]',
    about: 'Lists the dead letters that wait for an operator, oldest first; --all also lists replayed and discarded ones.',
    options: { all: { type: 'boolean' }, json: { type: 'boolean' } },
    prepare({ values, positionals }) {
      if (positionals.length > 0) throw new UsageError(`list takes no argument ${JSON.stringify(positionals[0])}`)
      const all = values.all === true
      return async ({ pool, print }) => {
        const found = await listLetters(await pool(), { all, limit: LIST_LIMIT + 1 })
        const letters = found.slice(0, LIST_LIMIT)
        if (values.json) print(safeJson(letters.map(forJson)))
        else if (letters.length === 0) print(all ? 'There are no dead letters.' : 'No dead letters wait for an operator.')
        else print(table([listHeading, ...letters.map(listRow)]))
        if (found.length > letters.length) {
          const { waiting } = await countLetters(await pool())
          process.stderr.write(`Only the oldest ${letters.length} are listed; ${waiting} wait for an operator.\n`)
        }
        return true
      }
    },
  },

  show: {
    usage: 'show ID [--json]',
    about: 'Shows one dead letter in full, with the usual remedy.',
    options: { json: { type: 'boolean' } },
    prepare({ values, positionals }) {
      const id = oneId(positionals)
      return async ({ pool, print }) => {
        const letter = await readLetter(await pool(), id)
        if (!letter) process.stderr.write(`${id}: ${safe(letterInWords(letter))}\n`)
        else print(values.json ? safeJson(forJson(letter)) : shown(letter))
        return letter !== undefined
      }
    },
  },

  replay: {
    usage: `replay ID... [--wait SECONDS] [--reason TEXT] [--operator NAME]`,
    about: `Processes dead letters again, waits up to ${WAIT_S} s (--wait) and prints the result of each. It can be repeated.`,
    options: { ...recordOptions, wait: { type: 'string' } },
    prepare({ values, positionals }) {
      const ids = idsOf(positionals)
      const waitMs = msOf('--wait', values.wait) ?? 1000 * WAIT_S
      const by = recordedBy(values, AT_COMMAND_LINE)
      return (tools) => replay(tools, ids, { waitMs, by })
    },
  },

  edit: {
    usage: 'edit ID --file FILE --reason TEXT [--wait SECONDS] [--operator NAME]',
    about: 'Processes the content of a file in place of the message. What was sent and what is applied both stay on record.',
    options: { ...recordOptions, file: { type: 'string' }, wait: { type: 'string' } },
    prepare({ values, positionals }) {
      const id = oneId(positionals)
      if (values.file === undefined) throw new UsageError('The edited message is missing; write --file FILE')
      const waitMs = msOf('--wait', values.wait) ?? 1000 * WAIT_S
      const by = recordedBy(values)
      return async (tools) => {
        const value = await readFile(String(values.file)).catch(() => undefined)
        if (value === undefined) throw new UsageError(`--file: ${JSON.stringify(values.file)} cannot be read`)
        return replay(tools, [id], { waitMs, by, value })
      }
    },
  },

  discard: {
    usage: 'discard ID --reason TEXT [--operator NAME]',
    about: 'Marks a dead letter as not to be applied, for example after a refund. Its bytes and the reason are kept.',
    options: recordOptions,
    prepare({ values, positionals }) {
      const id = oneId(positionals)
      const by = recordedBy(values)
      return async (tools) => {
        const actions = await tools.actions()
        const action = await actions.act({ verb: 'discard-letters', selection: { items: [id] }, ...by })
        if (action.changed > 0) tools.print(`${id}: discarded`)
        const [outcome] = await actions.items(action.id, { limit: 1 })
        if (action.changed === 0) process.stderr.write(`${id}: ${safe(outcome!.detail!)}; nothing was changed\n`)
        return action.changed > 0
      }
    },
  },
}

function idsOf(texts: readonly string[]): number[] {
  if (texts.length === 0) throw new UsageError('The id of a dead letter is missing; order-admin dead-letters list shows the ids')
  const ids = texts.map((text) => {
    const id = Number(text)
    if (!/^\d+$/.test(text) || !Number.isSafeInteger(id) || id < 1)
      throw new UsageError(`${JSON.stringify(text)} is not the id of a dead letter; write a whole number`)
    return id
  })
  return [...new Set(ids)]
}

function oneId(texts: readonly string[]): number {
  const ids = idsOf(texts)
  if (ids.length > 1) throw new UsageError('Too many ids; write one')
  return ids[0]!
}
