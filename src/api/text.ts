/** Text that comes from outside, and how it counts. */

/** Characters as `varchar(n)` counts them: an emoji is one, where JavaScript sees two units. */
export function lengthWithin(text: string, max: number): boolean {
  if (text.length <= max) return true
  return text.length <= 2 * max && [...text].length <= max
}
