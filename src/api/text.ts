/** How the characters of a text count. */

/** Characters as `varchar(n)` counts them: an emoji is one, where JavaScript sees two units. */
export function lengthWithin(text: string, max: number): boolean {
  if (text.length <= max) return true
  return text.length <= 2 * max && [...text].length <= max
}
