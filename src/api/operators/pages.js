/**
 * What browsers add to the operators' pages: times in the viewer's zone, ages that run, and live pages. Without it each page is as it was
 * loaded. Browsers load this file as it is.
 */
const REFRESH_MS = 5000
const AGES_MS = 1000

const units = [
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60],
  ['second', 1],
]

/** As `age` of time.ts. */
function age(date) {
  const seconds = Math.max(0, Math.floor((Date.now() - date) / 1000))
  const [unit, size] = units.find(([, inSeconds]) => seconds >= inSeconds) ?? ['second', 1]
  const n = Math.floor(seconds / size)
  return `${n} ${unit}${n === 1 ? '' : 's'}`
}

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' })
const day = new Intl.DateTimeFormat('en-CA', { year: 'numeric', month: '2-digit', day: '2-digit' })

/** `2026-11-28 15:03:22 (14:03:22 UTC)`; the day of UTC only where it is another one. A viewer in UTC sees what the server wrote. */
function showTime(element) {
  const date = new Date(element.dateTime)
  const [utcDay, utcTime] = date.toISOString().slice(0, 19).split('T')
  const isSameDay = day.format(date) === utcDay
  if (isSameDay && clock.format(date) === utcTime) return
  const beside = document.createElement('small')
  beside.textContent = `(${isSameDay ? '' : `${utcDay} `}${utcTime} UTC)`
  element.replaceChildren(`${day.format(date)} ${clock.format(date)} `, beside)
}

function showAges() {
  for (const element of document.querySelectorAll('time[data-age]')) {
    const text = age(new Date(element.dateTime))
    if (element.textContent !== text) element.textContent = text
  }
}

const showTimes = (root) => root.querySelectorAll('time:not([data-age], :has(small))').forEach(showTime)

/** On a phone each cell of a table stands below the other, with the name of its column. */
function labelCells(root) {
  for (const table of root.querySelectorAll('table:has(thead)')) {
    const names = [...table.querySelectorAll('thead th')].map(({ textContent }) => textContent.trim())
    for (const row of table.tBodies[0]?.rows ?? []) {
      for (const [at, cell] of [...row.cells].entries()) cell.dataset.label ??= names[at] ?? ''
    }
  }
}

/** A box above a list of checkboxes, which ticks them all. */
function addSelectAll(root) {
  for (const all of root.querySelectorAll('input[data-select-all]')) {
    all.closest('label').hidden = false
    all.addEventListener('change', () => {
      for (const box of all.form.querySelectorAll('input[name=item]')) box.checked = all.checked
    })
  }
}

function improve(root) {
  showTimes(root)
  showAges()
  addSelectAll(root)
  labelCells(root)
}

/** A browser chooses the first option where the page names none. */
const chosenByPage = (options) => options.find(({ defaultSelected }) => defaultSelected) ?? options[0]

function isEdited({ type, checked, defaultChecked, value, defaultValue, options, selectedOptions }) {
  if (type === 'checkbox') return checked
  if (type === 'radio') return checked !== defaultChecked
  return options ? selectedOptions[0] !== chosenByPage([...options]) : value !== defaultValue
}

/** Whether new content would take something away: what is typed, ticked or marked for copying. */
function isInUse(main) {
  if (document.activeElement?.matches('#main :is(input, select, textarea)')) return true
  if ([...main.querySelectorAll('input:not([type=hidden]), select, textarea')].some(isEdited)) return true
  const selection = document.getSelection()
  return selection !== null && !selection.isCollapsed && main.contains(selection.anchorNode)
}

/** What a section says, without the texts that change by themselves. */
function contentOf(section) {
  const copy = section.cloneNode(true)
  for (const element of copy.querySelectorAll('time')) element.textContent = ''
  return copy.outerHTML
}

/** Elements that can have the focus are found again by what they are, since the section that held them is new. */
const likeness = (element) => `${element.localName} ${element.id} ${element.getAttribute('href') ?? ''} ${element.textContent}`

function replaceSection(old, fresh) {
  const focused = old.contains(document.activeElement) ? likeness(document.activeElement) : undefined
  const opened = [...old.querySelectorAll('details')].map(({ open }) => open)
  const shifts = [...old.querySelectorAll('.scroll')].map(({ scrollLeft }) => scrollLeft)
  old.replaceWith(fresh)
  fresh.querySelectorAll('details').forEach((details, at) => (details.open = opened[at] ?? details.open))
  fresh.querySelectorAll('.scroll').forEach((box, at) => (box.scrollLeft = shifts[at] ?? 0))
  if (focused === undefined) return
  const again = [...fresh.querySelectorAll('a, button, summary, [tabindex]')].find((element) => likeness(element) === focused)
  again?.focus({ preventScroll: true })
}

/** Replaces the sections of `main` that say something new. */
function update(main, contents, page) {
  const fresh = [...page.getElementById('main').children]
  const freshContents = fresh.map(contentOf)
  const said = main.querySelector('[data-announce]')?.textContent
  const { scrollX, scrollY } = window
  if (fresh.length === main.children.length) {
    for (const [at, old] of [...main.children].entries()) if (contents[at] !== freshContents[at]) replaceSection(old, fresh[at])
  } else main.replaceChildren(...fresh)
  window.scrollTo(scrollX, scrollY)
  document.title = page.title
  improve(main)
  const says = main.querySelector('[data-announce]')?.textContent
  if (says !== said) document.getElementById('announcer').textContent = says ?? ''
  return freshContents
}

async function fetchPage() {
  const answer = await fetch(location.href, { headers: { accept: 'text/html' }, signal: AbortSignal.timeout(10_000) })
  if (answer.redirected) throw new Error('your session has ended; load the page again to sign in')
  if (!answer.ok) throw new Error(`the service answers with ${answer.status}`)
  return new DOMParser().parseFromString(await answer.text(), 'text/html')
}

function keepLive(main) {
  let contents = [...main.children].map(contentOf)
  let updatedAt = new Date()
  let isPaused = false
  let isFetching = false
  let timer
  const footer = document.getElementById('live')
  const state = document.createElement('span')
  const toggle = Object.assign(document.createElement('button'), { type: 'button', textContent: 'Pause updates' })
  state.setAttribute('role', 'status')
  footer.append(state, ' ', toggle)

  const say = (text) => state.textContent === text || (state.textContent = text)

  async function fetchAndUpdate() {
    if (isInUse(main)) return say('Updates wait while you select, type or mark something.')
    try {
      const page = await fetchPage()
      if (isPaused || isInUse(main)) return
      contents = update(main, contents, page)
      updatedAt = new Date()
      say('')
    } catch (error) {
      say(`Not updated since ${clock.format(updatedAt)}: ${error.name === 'Error' ? error.message : 'the service does not answer'}.`)
    }
  }

  async function refresh() {
    clearTimeout(timer)
    if (document.hidden || isPaused || isFetching) return
    isFetching = true
    await fetchAndUpdate()
    isFetching = false
    if (!isPaused) timer = setTimeout(refresh, REFRESH_MS)
  }

  toggle.addEventListener('click', () => {
    isPaused = !isPaused
    toggle.textContent = isPaused ? 'Resume updates' : 'Pause updates'
    say(isPaused ? `Updates are paused since ${clock.format(new Date())}.` : '')
    void refresh()
  })
  document.addEventListener('visibilitychange', () => void refresh())
  timer = setTimeout(refresh, REFRESH_MS)
}

const main = document.getElementById('main')
if ('live' in main.dataset) keepLive(main)
improve(document)
setInterval(showAges, AGES_MS)
