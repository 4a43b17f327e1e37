import type { Life, World } from './world.ts'

/** Verbs as a process has them: asked of PostgreSQL. */
export type Asked<Verbs> = {
  [Name in keyof Verbs]: Verbs[Name] extends (...input: infer Input) => infer Output ? (...input: Input) => Promise<Output> : never
}

/** @param unheard the share of questions that get no answer, done or not */
export function ask<Verbs extends object>(world: World, life: Life, verbs: Verbs, unheard: number): Asked<Verbs> {
  const lost = () => {
    throw new Error('PostgreSQL did not answer')
  }
  const asked = Object.entries(verbs).map(([name, verb]) => [
    name,
    (...input: unknown[]) =>
      world.ask(life, () => {
        const isUnheard = unheard > 0 && world.chance.happens(unheard)
        if (isUnheard && world.chance.happens(0.5)) return lost()
        const answer: unknown = verb(...input)
        world.tell(() => `${life.process} ${name} ${JSON.stringify([...input, answer])}${isUnheard ? ', unheard' : ''}`)
        return isUnheard ? lost() : answer
      }),
  ])
  return Object.fromEntries(asked) as Asked<Verbs>
}
