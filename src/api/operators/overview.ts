/** The first page: what is wrong, what to do about it, and how the service has done in the last three hours. */
import type { RouterInstance } from '@koa/router'
import type { Context, Middleware } from 'koa'
import { serviceTitles } from '../../causes.ts'
import { maskEvidence, maskText } from '../../operators/mask.ts'
import type { Minute, Overview, Overviews, ServiceView } from '../../operators/overview.ts'
import { type Problem, toProblem } from '../../operators/problems.ts'
import { reasonOf } from '../../telemetry/error-fields.ts'
import { within } from '../../within.ts'
import { type Html, html, type Insert } from './html.ts'
import { type OperatorRole, respond, roleOf } from './layout.ts'
import { actionLinks, countsInWords, problemFacts, problemPath, severityTitles } from './problem-parts.ts'
import { storeFault } from './store-fault.ts'
import { liveAge, time } from './time.ts'

/** A little longer than the pages' statements may take, so that PostgreSQL's own answer is shown where there is one. */
const PATIENCE_MS = 2500

/** `overview` is null while it cannot be read; then there is one problem, which says why. */
interface FirstPage {
  problems: Problem[]
  overview: Overview | null
}

/** A reader that does not fail when PostgreSQL or Redis does: then that is the problem. */
function patientReader(): (overview: Overviews) => Promise<FirstPage> {
  let awaySince: Date | undefined
  return async (overviews) => {
    try {
      const overview = await within(PATIENCE_MS, overviews.overview())
      awaySince = undefined
      return { problems: overview.problems, overview }
    } catch (error) {
      awaySince ??= new Date()
      return { problems: [storeAway(error, awaySince)], overview: null }
    }
  }
}

/** @throws the error itself if it is no store's */
function storeAway(error: unknown, since: Date): Problem {
  const isLate = error instanceof Error && error.message.startsWith('no answer within')
  const cause = isLate ? 'database-unavailable' : storeFault(error)
  if (cause === undefined) throw error
  return toProblem({ cause, since, evidence: reasonOf(error) })
}

/** The worst is named, because it is the one to begin with. */
function titleOf(problems: readonly Problem[]): string {
  const [worst] = problems
  if (!worst) return 'All well'
  return problems.length === 1 ? `1 problem: ${worst.sentence}` : `${problems.length} problems, the worst: ${worst.sentence}`
}

const problemCard = (problem: Problem, role: OperatorRole): Html => html`<article class="problem severity-${problem.severity}">
    <h2><a href="${problemPath(problem.cause, problem.service)}">${problem.sentence}</a></h2>
    <p><span class="severity">${severityTitles[problem.severity]}</span></p>
    ${problemFacts(problem)}
    ${actionLinks(problem, role)}
  </article>`

const afterEffect = (problem: Problem): Html =>
  html`<li><a href="${problemPath(problem.cause, problem.service)}">${problem.sentence}</a>: over.${problem.counts.length > 0 && html` Still waiting for the next retry: ${countsInWords(problem.counts)}.`}</li>`

const titles = { ...serviceTitles, kafka: 'Kafka' }

function serviceRow({ service, state, since, lastAnswerAt, calls, failures, error }: ServiceView): Html {
  const rate = calls === 0 ? 'no calls' : `${failures} of ${calls} (${Math.round((100 * failures) / calls)} %)`
  return html`<tr>
      <th scope="row">${titles[service]}</th>
      <td data-label="State"><span class="state-${state}">${state}</span>${since && html` for ${liveAge(since)}`}</td>
      <td data-label="Last answer">${lastAnswerAt ? html`${liveAge(lastAnswerAt)} ago` : 'none seen'}</td>
      <td data-label="Failures in the last minute">${rate}</td>
      <td data-label="Latest error" class="evidence">${error ?? 'none'}</td>
    </tr>`
}

const serviceTable = (services: readonly ServiceView[]): Html => html`<section aria-labelledby="services">
    <h2 id="services">Services that we depend on</h2>
    <table>
      <thead><tr><th scope="col">Service</th><th scope="col">State</th><th scope="col">Last answer</th><th scope="col">Failures in the last minute</th><th scope="col">Latest error</th></tr></thead>
      <tbody>${services.map(serviceRow)}</tbody>
    </table>
  </section>`

const chartSection = (charts: Html): Html => html`<section aria-labelledby="charts">
    <h2 id="charts">The last three hours</h2>
    ${charts}
  </section>`

/** Loaded at the first chart. */
const drawn = async (minutes: readonly Minute[], now: Date): Promise<Html> => (await import('./charts.ts')).drawCharts(minutes, now)

const problemSection = (problems: readonly Problem[], role: OperatorRole): Insert => html`<section aria-label="Problems">
    ${problems.length === 0 && html`<p class="well">No problem is known. Orders and payments go on.</p>`}
    ${problems.map((problem) => problemCard(problem, role))}
  </section>`

/** For operators that may not see emails. */
function masked({ problems, overview }: FirstPage): FirstPage {
  return {
    problems: problems.map(maskEvidence),
    overview: overview && {
      ...overview,
      afterEffects: overview.afterEffects.map(maskEvidence),
      services: overview.services.map((one) => ({ ...one, error: one.error && maskText(one.error) })),
    },
  }
}

async function showOverview(ctx: Context, shown: FirstPage): Promise<void> {
  const { problems, overview } = roleOf(ctx) === 'admin' ? shown : masked(shown)
  const { afterEffects = [], services = [], minutes = [] } = overview ?? {}
  const charts = overview && (await drawn(minutes, overview.readAt))
  const readAt = overview?.readAt ?? new Date()
  respond(ctx, {
    title: titleOf(problems),
    isLive: true,
    data: { problems, afterEffects, services, minutes, readAt, isComplete: overview !== null },
    content: () => [
      problemSection(problems, roleOf(ctx)),
      html`<section aria-label="After a fault">${
        afterEffects.length > 0 && html`<h2>Still waiting after a fault that is over</h2><ul>${afterEffects.map(afterEffect)}</ul>`
      }</section>`,
      overview ? serviceTable(services) : html`<p class="note">Services and charts are shown when PostgreSQL and Redis answer.</p>`,
      charts && chartSection(charts),
      html`<p class="note">Read at ${time(readAt)}.</p>`,
    ],
  })
}

/** @param guarded the middleware of a session */
export function addOverviewPage(router: RouterInstance, guarded: readonly Middleware[], deps: () => { overview: Overviews }): void {
  const read = patientReader()
  router.get('/', ...guarded, async (ctx) => showOverview(ctx, await read(deps().overview)))
}
