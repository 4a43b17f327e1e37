/** Headings of Markdown pages, as GitHub links to them. */

/** The page without its fenced code, in which `#` begins a comment and `](` a regular expression. */
export const prose = (page: string) => page.replace(/^ *```[^]*?^ *```$/gm, '')

/** The anchors that GitHub gives to the headings of a page: a heading that comes again gets `-1`, `-2` and so on. */
export function anchorsOf(page: string): string[] {
  const seen = new Map<string, number>()
  return [...prose(page).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) => {
    const anchor = heading
      .trim()
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-')
    const times = seen.get(anchor) ?? 0
    seen.set(anchor, times + 1)
    return times === 0 ? anchor : `${anchor}-${times}`
  })
}
