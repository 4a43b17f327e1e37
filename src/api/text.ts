/** Counts characters as PostgreSQL does. */

/** Whether `varchar(max)` can store the text. It counts an emoji once, where JavaScript counts two UTF-16 units. */
export function lengthWithin(text: string, max: number): boolean {
  if (text.length <= max) return true
  return text.length <= 2 * max && [...text].length <= max
}
