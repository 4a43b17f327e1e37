/** HTML as tagged templates. Inserted text is escaped; inserted HTML is not. Needs no library and no build (decision 0015). */

/** Escaped text. Only {@link html} creates it. */
export class Html {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

/** `false`, null and undefined become nothing, so that `condition && html...` may stand in a template. */
export type Insert = Html | string | number | false | null | undefined | readonly Insert[]

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

function textOf(insert: Insert): string {
  if (insert === false || insert === null || insert === undefined) return ''
  if (insert instanceof Html) return insert.text
  if (typeof insert === 'object') return insert.map(textOf).join('')
  return String(insert).replace(/[&<>"']/g, (sign) => entities[sign]!)
}

/**
 * Inserts in attributes need quotes. The caller must check URLs from outside, because escaping does not change `javascript:` (the pages'
 * policy would block it).
 */
export function html(strings: TemplateStringsArray, ...inserts: Insert[]): Html {
  return new Html(strings.reduce((text, string, at) => text + textOf(inserts[at - 1]) + string))
}
