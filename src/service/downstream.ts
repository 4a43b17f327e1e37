/** The downstream services of a worker, each behind a circuit breaker, and what follows from a breaker's state. */
import type { Fault, ServiceName } from '../causes.ts'
import type { BreakerState } from '../clients/breaker.ts'
import { type Catalog, createCatalog } from '../clients/catalog.ts'
import { createDownstream, type GuardedDownstream } from '../clients/http.ts'
import { createShipping, type Shipping } from '../clients/shipping.ts'
import type { Check } from '../api/ops.ts'
import type { ServiceHealth } from '../clients/health.ts'
import { CATALOG_UNREACHABLE, SHIPPING_UNREACHABLE, type Unavailable } from '../processors/checkout-run.ts'
import type { Base } from './connect.ts'

/** Any product and any order will do: a 404 is an answer, too. */
const services = {
  catalog: { base: 'CATALOG_BASE', concurrency: 'CATALOG_CONCURRENCY', probePath: '/catalog/v1/products/1' },
  shipping: { base: 'SHIPPING_BASE', concurrency: 'SHIPPING_CONCURRENCY', probePath: '/shipping/v1/shipments?order_id=1' },
} as const

export interface Downstream {
  catalog: Catalog
  shipping: Shipping
  /** What customers get while a breaker refuses calls; undefined while none does. */
  unavailable(): Unavailable | undefined
  health(): Record<ServiceName, ServiceHealth>
  /** See {@link GuardedDownstream.probeIfFailing}. */
  probeFailing(): Promise<unknown>
}

const faultOf = (service: ServiceName, { fault }: ServiceHealth): Fault => fault ?? { cause: 'downstream-error', service }

/** @param onCatalog called with each new state of Catalog's breaker, which begins as `closed` */
export function openDownstream(base: Base, checks: Check[], onCatalog: (state: BreakerState) => void): Downstream {
  const { config, metrics, logger, closers } = base

  function open(name: keyof typeof services, onChange: (state: BreakerState) => void = () => {}): GuardedDownstream {
    const { probePath, ...variables } = services[name]
    let breaker: BreakerState = 'closed'
    const downstream = createDownstream({
      name,
      base: config[variables.base],
      headers: { 'x-internal-key': config.SVC_INTERNAL_KEY },
      concurrency: config[variables.concurrency],
      timeoutMs: config.CALL_TIMEOUT_MS,
      metrics,
      breaker: {
        probePath,
        onChange(state) {
          breaker = state
          if (state === 'open') logger.warn({ downstream: name }, 'breaker open: the downstream service failed ten times in a row')
          if (state === 'closed') logger.info({ downstream: name }, 'breaker closed: the downstream service works again')
          onChange(state)
        },
      },
    })
    closers.push(() => downstream.close())
    checks.push({
      name,
      required: false,
      async check() {
        if (breaker !== 'closed') throw new Error(`degraded: its breaker is ${breaker}`)
      },
    })
    return downstream
  }

  const catalog = open('catalog', onCatalog)
  const shipping = open('shipping')
  return {
    catalog: createCatalog(catalog),
    shipping: createShipping(shipping),
    unavailable() {
      if (catalog.refusesWrites()) return { rejection: CATALOG_UNREACHABLE, fault: faultOf('catalog', catalog.health()) }
      return shipping.refusesWrites() ? { rejection: SHIPPING_UNREACHABLE, fault: faultOf('shipping', shipping.health()) } : undefined
    },
    health: () => ({ catalog: catalog.health(), shipping: shipping.health() }),
    probeFailing: () => Promise.all([catalog.probeIfFailing(), shipping.probeIfFailing()]),
  }
}
