import { readFileSync } from 'node:fs'
import test from 'ava'
import { readRunbook } from '../../../src/api/operators/runbook.ts'
import { token } from '../harness.ts'
import { openOperators } from './harness.ts'

test('the runbook’s page has an anchor for each heading, and no link that leads nowhere', async (t) => {
  const text = String(await readRunbook())
  const headings = readFileSync(new URL('../../../docs/runbook.md', import.meta.url), 'utf8').match(/^## .+$/gm) ?? []
  const ids = new Set([...text.matchAll(/<h\d id="([^"]+)">/g)].map(([, id]) => id))
  t.true(ids.size >= headings.length)
  const targets = [...text.matchAll(/href="([^"]*)"/g)].map(([, target = '']) => target)
  t.true(targets.length > 20)
  for (const target of targets) t.true(target.startsWith('https:') || ids.has(target.slice(1)), target)
  t.notRegex(text, /<(script|img|style)/)
})

test('the runbook is shown to operators alone', async (t) => {
  const operators = await openOperators(t)
  const headers = { authorization: `Bearer ${token({ role: 'support' })}` }
  t.regex((await operators.visit('/order/admin/runbook', headers)).text, /<h1>Runbook<\/h1>[^]*<h2 id="downstream-unreachable">/)
  t.is((await operators.visit('/order/admin/runbook')).status, 303)
})
