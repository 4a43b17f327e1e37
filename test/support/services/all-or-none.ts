/** Servers that are of use only together. */
export interface Stoppable {
  stop(): Promise<void>
}

/**
 * @returns all of them, once the last has started. Where one does not start, the others are ended, also those that are still starting: they
 * would keep the process from its end.
 */
export async function allOrNone<S extends Record<string, Stoppable>>(
  starting: { [Name in keyof S]: S[Name] | Promise<S[Name]> },
): Promise<S & Stoppable> {
  const stop = async () => {
    const results = await Promise.allSettled(Object.values(starting))
    await Promise.all(results.map((result) => (result.status === 'fulfilled' ? result.value.stop() : undefined)))
  }
  try {
    const started = await Promise.all(Object.entries(starting).map(async ([name, server]) => [name, await server] as const))
    return { ...(Object.fromEntries(started) as S), stop }
  } catch (error) {
    await stop()
    throw error
  }
}
