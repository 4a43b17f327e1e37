/** A map that keeps its latest entries, at least `limit` of them and fewer than twice as many. */
export class Latest<Key, Value> {
  readonly #map = new Map<Key, Value>()
  readonly #limit: number

  constructor(limit: number) {
    this.#limit = limit
  }

  get(key: Key): Value | undefined {
    return this.#map.get(key)
  }

  set(key: Key, value: Value): void {
    this.#map.set(key, value)
    if (this.#map.size >= 2 * this.#limit) this.#dropOldest()
  }

  /** Oldest first. */
  values(): Value[] {
    return [...this.#map.values()]
  }

  /** In one go: to find the oldest of a Map one at a time is to step over all that were deleted before it. */
  #dropOldest(): void {
    let left = this.#map.size - this.#limit
    for (const key of this.#map.keys()) {
      if (left-- === 0) return
      this.#map.delete(key)
    }
  }
}
