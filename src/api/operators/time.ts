/** Times and ages. The server writes UTC; `pages.js` adds the viewer's zone and keeps ages up to date. */
import { type Html, html } from './html.ts'

/** `2026-11-28 14:03:22 UTC` */
export const utc = (date: Date): string => `${date.toISOString().slice(0, 19).replace('T', ' ')} UTC`

/** A point in time. With JavaScript it is shown in the viewer's zone, with UTC beside. */
export const time = (date: Date): Html => html`<time datetime="${date.toISOString()}">${utc(date)}</time>`

const units = [
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60],
] as const

/** How long ago, in words: `3 minutes`. The largest unit only; below a minute, seconds. A time to come counts as now. */
export function age(date: Date, now = new Date()): string {
  const seconds = Math.max(0, Math.floor((now.getTime() - date.getTime()) / 1000))
  const [unit, size] = units.find(([, inSeconds]) => seconds >= inSeconds) ?? ['second', 1]
  const n = Math.floor(seconds / size)
  return `${n} ${unit}${n === 1 ? '' : 's'}`
}

/** An age that `pages.js` keeps up to date. The time itself is its title. */
export const liveAge = (date: Date): Html => html`<time datetime="${date.toISOString()}" title="${utc(date)}" data-age>${age(date)}</time>`
