/** Commands on dead letters: what lies there, what each says, and what is done about it. */
import { countLetters, discardLetter, listLetters, readLetter } from '../db/dead-letters.ts'
import { type Group, msOf, UsageError } from './command.ts'
import { forJson, listHeading, listRow, shown, standing } from './letter.ts'
import { replay } from './replay.ts'
import { safeJson, table } from './shown.ts'

const LISTED_AT_MOST = 1000
const WAIT_S = 15

export const deadLetters: Group = {
  list: {
    usage: 'list [--all] [--json]',
    about: 'Dead letters that wait for a person, the oldest first; with --all those that were dealt with too.',
    options: { all: { type: 'boolean' }, json: { type: 'boolean' } },
    prepare({ values, positionals }) {
      if (positionals.length > 0) throw new UsageError(`list takes no ${JSON.stringify(positionals[0])}`)
      const all = values.all === true
      return async ({ pool, print }) => {
        const found = await listLetters(await pool(), { all, limit: LISTED_AT_MOST + 1 })
        const letters = found.slice(0, LISTED_AT_MOST)
        if (values.json) print(safeJson(letters.map(forJson)))
        else if (letters.length === 0) print(all ? 'There are no dead letters.' : 'No dead letter waits for a person.')
        else print(table([listHeading, ...letters.map(listRow)]))
        if (found.length > letters.length) {
          const { waiting } = await countLetters(await pool())
          process.stderr.write(`These are the oldest ${letters.length}; ${waiting} wait in all.\n`)
        }
        return true
      }
    },
  },

  show: {
    usage: 'show ID [--json]',
    about: 'All of one dead letter, with what usually helps.',
    options: { json: { type: 'boolean' } },
    prepare({ values, positionals }) {
      const id = oneId(positionals)
      return async ({ pool, print }) => {
        const letter = await readLetter(await pool(), id)
        if (!letter) process.stderr.write(`${id}: ${standing(letter)}\n`)
        else print(values.json ? safeJson(forJson(letter)) : shown(letter))
        return letter !== undefined
      }
    },
  },

  replay: {
    usage: `replay ID... [--wait SECONDS]`,
    about: `Tries once more what was the trouble with them, and says what became of each; waits ${WAIT_S} s for that. It can be repeated.`,
    options: { wait: { type: 'string' } },
    prepare({ values, positionals }) {
      const ids = idsOf(positionals)
      const waitMs = msOf('--wait', values.wait) ?? 1000 * WAIT_S
      return (tools) => replay(tools, ids, waitMs)
    },
  },

  discard: {
    usage: 'discard ID --reason TEXT',
    about: 'Nobody will apply it: it was refunded, or means nothing. Its bytes and the reason are kept.',
    options: { reason: { type: 'string' } },
    prepare({ values, positionals }) {
      const id = oneId(positionals)
      const reason = String(values.reason ?? '').trim()
      if (reason === '') throw new UsageError('Say why: --reason TEXT')
      if (reason.includes('\0') || !reason.isWellFormed()) throw new UsageError('The reason is no text')
      return async ({ pool, print }) => {
        if (await discardLetter(await pool(), id, reason)) {
          print(`${id}: discarded`)
          return true
        }
        const letter = await readLetter(await pool(), id)
        process.stderr.write(`${id}: ${standing(letter)}; nothing was changed\n`)
        return false
      }
    },
  },
}

function idsOf(texts: readonly string[]): number[] {
  if (texts.length === 0) throw new UsageError('Name a dead letter by its id')
  const ids = texts.map((text) => {
    const id = Number(text)
    if (!/^\d+$/.test(text) || !Number.isSafeInteger(id) || id < 1)
      throw new UsageError(`${JSON.stringify(text)} is no id of a dead letter`)
    return id
  })
  return [...new Set(ids)]
}

function oneId(texts: readonly string[]): number {
  const ids = idsOf(texts)
  if (ids.length > 1) throw new UsageError('One id, please')
  return ids[0]!
}
