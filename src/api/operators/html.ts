/** HTML as tagged templates, by hono/html (decision 0032). Inserted text is escaped; inserted HTML is not. */
import { html as render } from 'hono/html'
import type { HtmlEscapedString } from 'hono/utils/html'

/** Escaped text. Only {@link html} creates it. */
export type Html = HtmlEscapedString

/** `false`, null and undefined become nothing, so that `condition && html...` may stand in a template. */
export type Insert = Html | string | number | boolean | null | undefined | readonly Insert[]

/**
 * Inserts in attributes need quotes. The caller must check URLs from outside, because escaping does not change `javascript:` (the pages'
 * policy would block it). hono/html takes any insert; this narrows them to what can be shown at once, so an object is a compile error.
 */
export function html(strings: TemplateStringsArray, ...inserts: Insert[]): Html {
  const rendered = render(strings, ...inserts)
  if (rendered instanceof Promise) throw new TypeError('a template was given a promise; await it first')
  return rendered
}
