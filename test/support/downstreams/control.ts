/** The control endpoint: the downstreams' functions over HTTP, for what runs in another process than they do. */
import { z } from 'zod'
import { type Controls, routes } from './control-routes.ts'
import { type Listener, openListener } from './listener.ts'
import { type Answer, Exchange, json, readJson, refusal } from './exchange.ts'

/** Opens the control endpoint of these downstreams. Answers are JSON; what is asked wrongly gets a 4xx with a `detail` that says how to ask. */
export function openControl(downstreams: Controls, port?: number): Promise<Listener> {
  const table = routes(downstreams).map(([name, act]) => {
    const [method, path = ''] = name.split(' ')
    return { method, segments: path.split('/'), act }
  })

  async function answer(method: string | undefined, url: URL, body: unknown): Promise<Answer> {
    const segments = url.pathname.split('/')
    for (const route of table) {
      if (route.method !== method) continue
      const named = match(route.segments, segments)
      if (named) return json(200, (await route.act({ named, query: Object.fromEntries(url.searchParams), body })) ?? {})
    }
    return refusal(404, `No such control: ${method} ${url.pathname}; GET / lists them`)
  }

  return openListener((req, res) => {
    const exchange = new Exchange(res, () => undefined)
    const url = new URL(req.url ?? '', 'http://control')
    if (req.method === 'GET' && url.pathname === '/')
      return exchange.answer(json(200, { controls: routes(downstreams).map(([name]) => name) }))
    readJson(req, (body) => {
      answer(req.method, url, body).then(
        (right) => exchange.answer(right),
        (error: unknown) => exchange.answer(wrong(error)),
      )
    })
  }, port)
}

/** The named segments of a path that has this form; nothing where it has another. */
function match(form: readonly string[], segments: readonly string[]): Record<string, string> | undefined {
  if (form.length !== segments.length) return undefined
  const named: Record<string, string> = {}
  for (const [at, part] of form.entries()) {
    const given = segments[at] ?? ''
    if (part.startsWith(':')) named[part.slice(1)] = decodeURIComponent(given)
    else if (part !== given) return undefined
  }
  return named
}

function wrong(error: unknown): Answer {
  if (error instanceof z.ZodError) return refusal(422, z.prettifyError(error))
  if (error instanceof RangeError) return refusal(404, error.message)
  if (error instanceof URIError) return refusal(400, `Malformed path: ${error.message}`)
  return refusal(500, error instanceof Error ? error.message : String(error))
}
