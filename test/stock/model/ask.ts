import { LOCKED } from '../../../src/db/locked.ts'
import type { UnansweredStatements } from './faults.ts'
import { type Life, meetFate, type World } from './world.ts'

/** Statements as a process has them: asked of PostgreSQL. */
export type Asked<Statements> = {
  [Name in keyof Statements]: Statements[Name] extends (...input: infer Input) => infer Output
    ? (...input: Input) => Promise<Output>
    : never
}

const shown = (_: string, value: unknown) => (value instanceof Map ? [...value] : value === LOCKED ? 'locked' : value)

/** @param faults statements that get no answer */
export function ask<Statements extends object>(
  world: World,
  life: Life,
  statements: Statements,
  faults: UnansweredStatements,
): Asked<Statements> {
  const lost = () => {
    throw new Error('PostgreSQL did not answer')
  }
  const asked = Object.entries(statements).map(([name, statement]) => [
    name,
    (...input: unknown[]) =>
      world.ask(life, () => {
        meetFate(life, name)
        const unanswered = faults.next([name])
        if (unanswered && !unanswered.isDone) return lost()
        let answer: unknown
        try {
          answer = statement(...input)
        } catch (error) {
          setImmediate(() => {
            throw error // a fault in the tables in memory ends the history
          })
        }
        world.tell(
          () =>
            `${life.process} ${name} ${JSON.stringify(input, shown)}: ${JSON.stringify(answer, shown)}${unanswered ? ', unanswered' : ''}`,
        )
        return unanswered ? lost() : answer
      }),
  ])
  return Object.fromEntries(asked) as Asked<Statements>
}
