import { LOCKED } from '../../../src/db/locked.ts'
import type { Life, World } from './world.ts'

/** Statements as a process has them: asked of PostgreSQL. */
export type Asked<Statements> = {
  [Name in keyof Statements]: Statements[Name] extends (...input: infer Input) => infer Output
    ? (...input: Input) => Promise<Output>
    : never
}

const shown = (_: string, value: unknown) => (value instanceof Map ? [...value] : value === LOCKED ? 'locked' : value)

/** @param unheard the share of statements that get no answer, carried out or not */
export function ask<Statements extends object>(world: World, life: Life, statements: Statements, unheard: () => number): Asked<Statements> {
  const lost = () => {
    throw new Error('PostgreSQL did not answer')
  }
  const asked = Object.entries(statements).map(([name, statement]) => [
    name,
    (...input: unknown[]) =>
      world.ask(life, () => {
        const isUnheard = unheard() > 0 && world.chance.happens(unheard())
        if (isUnheard && world.chance.happens(0.5)) return lost()
        let answer: unknown
        try {
          answer = statement(...input)
        } catch (error) {
          setImmediate(() => {
            throw error // a fault in the tables in memory ends the history
          })
        }
        world.tell(
          () => `${life.process} ${name} ${JSON.stringify(input, shown)}: ${JSON.stringify(answer, shown)}${isUnheard ? ', unheard' : ''}`,
        )
        return isUnheard ? lost() : answer
      }),
  ])
  return Object.fromEntries(asked) as Asked<Statements>
}
