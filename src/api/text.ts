/** Text that comes from outside: what PostgreSQL can keep, and how it counts. */

/** PostgreSQL takes neither NUL nor half of a surrogate pair, and one such value would spoil the batch that it travels in. */
export const storable = (text: string): boolean => text.isWellFormed() && !text.includes('\0')

/** Characters as `varchar(n)` counts them: an emoji is one, where JavaScript sees two units. */
export function lengthWithin(text: string, max: number): boolean {
  if (text.length <= max) return true
  return text.length <= 2 * max && [...text].length <= max
}
