/** HTML as tagged templates: whatever is put into one is escaped, unless it is HTML already. No library and no build (decision 0015). */

/** Made by {@link html} alone: text that needs no more escaping. */
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
 * An attribute's insert needs quotes around it. A URL from outside has to be checked by whoever inserts it: `javascript:` escapes to itself
 * (the pages' policy would stop it).
 */
export function html(strings: TemplateStringsArray, ...inserts: Insert[]): Html {
  return new Html(strings.reduce((text, string, at) => text + textOf(inserts[at - 1]) + string))
}
