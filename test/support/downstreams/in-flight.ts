/** Counts what goes on at the same time, by key and altogether, and remembers the most there ever was. */
export class InFlight<Key> {
  readonly #counts = new Map<Key, { now: number; most: number }>()
  #now = 0
  #most = 0

  /** One more; `keys` without repeats. */
  enter(keys: readonly Key[]): void {
    this.#now += 1
    if (this.#now > this.#most) this.#most = this.#now
    for (const key of keys) {
      const count = this.#counts.get(key)
      if (!count) this.#counts.set(key, { now: 1, most: 1 })
      else if (++count.now > count.most) count.most = count.now
    }
  }

  /** One less, with the keys it entered with. */
  leave(keys: readonly Key[]): void {
    this.#now -= 1
    for (const key of keys) {
      const count = this.#counts.get(key)
      if (count) count.now -= 1
    }
  }

  /** How many there are now, altogether. */
  get now(): number {
    return this.#now
  }

  /** The most there ever were at once, altogether. */
  get most(): number {
    return this.#most
  }

  /** The most there ever were at once of this key. */
  mostOf(key: Key): number {
    return this.#counts.get(key)?.most ?? 0
  }

  /** The most there ever were at once of any one key. */
  mostOfAnyKey(): number {
    let most = 0
    for (const count of this.#counts.values()) most = Math.max(most, count.most)
    return most
  }

  /** Forgets the past; what is under way stays counted. */
  forget(): void {
    this.#most = this.#now
    for (const [key, count] of this.#counts) {
      if (count.now === 0) this.#counts.delete(key)
      else count.most = count.now
    }
  }
}
