/** The command `problems`: what the operators' first page shows. */
import { readFacts } from '../operators/problem-facts.ts'
import { type Problem, problemsOf } from '../operators/problems.ts'
import { serviceTitles, verbs } from '../causes.ts'
import { createDatabaseClock } from '../db/database-clock.ts'
import { type Command, UsageError } from './command.ts'
import { safe, safeJson, shownTime, table } from './shown.ts'

export const problemsCommand: Command = {
  usage: '[--json]',
  about: `Lists what is wrong now, worst first: cause, what waits, since when, evidence, and what helps.
      Exit code 1 if there is a problem.`,
  options: { json: { type: 'boolean' } },
  prepare({ values, positionals }) {
    if (positionals.length > 0) throw new UsageError(`problems takes no argument ${JSON.stringify(positionals[0])}`)
    return async ({ pool, queues, print }) => {
      // Without Redis its absence is among the problems.
      const opened = await queues().catch(() => undefined)
      const all = opened && [opened.checkoutQueue, opened.paymentQueue, opened.stockQueue, opened.actionQueue].map(({ queue }) => queue)
      const { databaseTime } = await createDatabaseClock(await pool())
      const facts = await readFacts({ read: pool, queues: all, now: databaseTime, startedAt: 0 })
      const { problems, afterEffects } = problemsOf(facts)
      if (values.json) print(safeJson({ problems, afterEffects }))
      else print([...problems.map(shown), ...afterEffects.map(shownAfter), ...(problems.length === 0 ? ['All well.'] : [])].join('\n\n'))
      return problems.length === 0
    }
  },
}

const countsInWords = ({ counts }: Problem): string =>
  counts.map(({ n, isMore, of }) => `${isMore ? 'more than ' : ''}${n} ${of}${n === 1 && !isMore ? '' : 's'}`).join(', ') || 'nothing'

function shown(problem: Problem): string {
  const { cause, service, queue, sentence, since, oldest, evidence, next, actions } = problem
  const selection = queue ? `--queue ${queue}` : `--cause ${cause}${service ? ` --service ${service}` : ''}`
  return [
    sentence,
    table([
      ['  cause', `${cause}${service ? ` (${serviceTitles[service]})` : ''}`],
      ['  waits', countsInWords(problem)],
      ['  since', shownTime(since)],
      ...(oldest ? [['  oldest', `${oldest.kind} ${oldest.id}, since ${shownTime(oldest.since)}`]] : []),
      ['  evidence', safe(evidence)],
      ['  next', next],
      ...actions
        .filter((verb) => verb !== 'edit-letter')
        .map((verb) => ['  helps', `order-admin act ${verb}${verbs[verb].item === 'service' ? '' : ` ${selection}`} --reason TEXT`]),
    ]),
  ].join('\n')
}

const shownAfter = (problem: Problem): string => `${problem.sentence}: over. Still waiting for the next retry: ${countsInWords(problem)}.`
