/** One line for each thing the services do, and a sign of life while it takes long. */

/** Where the lines go. `undefined` in its place means silence. */
export type Say = (line: string) => void

/** Prints to stderr, so that stdout stays with whatever the services are started for. */
export const toTerminal: Say = (line) => console.error(line)

/** Silence, for servers that a test starts for itself. */
export const quiet: Say = () => {}

const signOfLifeMs = 2500

/** Says what begins and how long it took; in between, a line now and then for anything that takes longer than two seconds. */
export async function during<T>(say: Say, what: string, work: () => Promise<T>): Promise<T> {
  const began = performance.now()
  const seconds = () => ((performance.now() - began) / 1000).toFixed(1)
  const who = what.split(':')[0]
  say(what)
  const sign = setInterval(() => say(`${who}: still at it after ${seconds()} s`), signOfLifeMs)
  try {
    const result = await work()
    say(`${who}: ready in ${seconds()} s`)
    return result
  } finally {
    clearInterval(sign)
  }
}
