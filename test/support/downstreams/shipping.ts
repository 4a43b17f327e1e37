/** The Shipping that the order service calls: strict about what it takes, forgetful of what it has, and broken by more than it can bear. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { z } from 'zod'
import { Capacity, shippingThroughput } from './capacity.ts'
import { carryOut } from './carry-out.ts'
import type { Chance } from './chance.ts'
import { openListener } from './listener.ts'
import { type Answer, Exchange, failure, json, readJson, refusal, unprocessable } from './exchange.ts'
import { type Fault, Faults, type FaultOptions, faultOptions } from './faults.ts'
import { InFlight } from './in-flight.ts'
import { type Entry, Journal } from './journal.ts'
import { Latest } from './latest.ts'
import { breaksDatabase, isId, type Shipment, shipmentRequest } from './shipment.ts'
import { Waits } from './waits.ts'

export const shippingCall = z.enum(['create', 'list'])
export type ShippingCall = z.infer<typeof shippingCall>

/** Which calls a fault strikes: those of this kind, for this order or customer (a list has none); any, where they are left out. */
export const shippingFault = faultOptions.extend({
  call: shippingCall.optional(),
  orderId: z.int().optional(),
  email: z.string().optional(),
})
export type ShippingFault = z.infer<typeof shippingFault>

/** A call as Shipping saw it. */
export interface ShippingEntry extends Entry {
  call: ShippingCall
  orderId?: number
  email?: string
  internalKey?: string
}

export interface ShippingManners {
  /** Nothing is waited for. */
  instant: boolean
  /** Several calls are served at a time, and each takes the longer ({@link Capacity}). Otherwise one after the other. Either way about 240/s. */
  real: boolean
}

export interface ShippingOptions extends ShippingManners {
  chance: Chance
  journal: number
  /** Of at least so many orders the shipments are remembered, the latest. */
  orders: number
  port?: number
}

export interface Shipping {
  base: string
  /** What there is to ship, oldest first: of one order, or all. */
  shipments(orderId?: number): Shipment[]
  /** How many shipments an order has; more than one breaks Shipping's payment consumer. */
  count(orderId: number): number
  /** Tells it what to do wrong. */
  fault(fault: ShippingFault): Fault
  removeFault(id: number): boolean
  clearFaults(): void
  /** The calls so far, oldest first. */
  journal(only?: { call?: ShippingCall; orderId?: number; email?: string }): ShippingEntry[]
  /** Keeps so many calls in the journal from now on; 0 switches it off. */
  keepJournal(limit: number): void
  /** The most calls that there ever were at the same time. */
  inFlightMost(): number
  /** Whether it ever had more calls at once than it can bear. */
  broke(): boolean
  /** Forgets the journal, the most there ever was, and that it broke. Shipments and faults stay. */
  forget(): void
  /** Changes its manners from the next call on. */
  behave(manners: Partial<ShippingManners>): void
  /** Refuses connections and cuts the open ones. */
  down(): Promise<void>
  /** Is back, at the same port. */
  up(): Promise<void>
  stop(): Promise<void>
}

/** With more calls at once it breaks; with fewer than {@link healsBelow} it is well again. It was seen to break between 16 and 128. */
const bears = 100
const healsBelow = 50

const breakages: readonly [FaultOptions, ...FaultOptions[]] = [
  { fault: 'error' },
  { fault: 'error', actFirst: true },
  { fault: 'reset' },
  { fault: 'drop' },
  { fault: 'hang' },
]

const path = '/shipping/v1/shipments'

/** Opens a Shipping without shipments. */
export async function openShipping({ chance, journal: limit, orders, port, ...initial }: ShippingOptions): Promise<Shipping> {
  const manners: ShippingManners = { ...initial }
  const waits = new Waits()
  const capacity = new Capacity(shippingThroughput, chance, waits)
  const faults = new Faults<ShippingFault>()
  const journal = new Journal<ShippingEntry>(limit)
  const inFlight = new InFlight<never>()
  const shipments = new Latest<number, Shipment[]>(orders)
  let lastId = 0
  let busyUntil = 0
  let broken = false
  let everBroke = false

  const listener = await openListener((req, res) => {
    const url = req.url ?? ''
    if (req.method === 'POST' && url === path) return create(req, res)
    if (req.method === 'GET' && (url === path || url.startsWith(`${path}?`))) return list(url, req, res)
    new Exchange(res, () => undefined).answer(refusal(404, 'Not Found'))
  }, port)

  function create(req: IncomingMessage, res: ServerResponse): void {
    const { entry, exchange } = entered('create', req, res)
    readJson(req, (body) => {
      const request = shipmentRequest(body)
      const { order_id, user_email } = (body ?? {}) as Record<string, unknown>
      if (isId(order_id)) entry.orderId = order_id
      if (typeof user_email === 'string') entry.email = user_email
      strike(exchange, entry, () => {
        if ('field' in request) return unprocessable([request.field], request.msg)
        if (breaksDatabase(request)) return failure(500)
        const shipment = { id: ++lastId, ...request, carrier: '', tracking_number: '', status: 'PENDING_PAYMENT' }
        keep(shipment)
        entry.applied = true
        return json(201, shipment)
      })
    })
  }

  function list(url: string, req: IncomingMessage, res: ServerResponse): void {
    const { entry, exchange } = entered('list', req, res)
    const text = new URLSearchParams(url.slice(path.length)).get('order_id')
    const orderId = text !== null && /^-?\d+$/.test(text) ? Number(text) : undefined
    if (orderId !== undefined) entry.orderId = orderId
    strike(exchange, entry, () =>
      isId(orderId) ? json(200, shipments.get(orderId) ?? []) : unprocessable(['order_id'], 'Input should be a valid integer'),
    )
  }

  /** A second shipment of an order is simply one more. */
  function keep(shipment: Shipment): void {
    const others = shipments.get(shipment.order_id)
    if (others) others.push(shipment)
    else shipments.set(shipment.order_id, [shipment])
  }

  /** Counts the call until it is over for its caller, and writes down how it ended. */
  function entered(call: ShippingCall, req: IncomingMessage, res: ServerResponse): { entry: ShippingEntry; exchange: Exchange } {
    const entry: ShippingEntry = { call, at: Date.now(), ms: 0, answer: 'none', applied: false }
    const { 'idempotency-key': key, 'x-internal-key': internalKey } = req.headers
    if (typeof key === 'string') entry.idempotencyKey = key
    if (typeof internalKey === 'string') entry.internalKey = internalKey
    journal.add(entry)

    const since = performance.now()
    inFlight.enter([])
    if (inFlight.now > bears) broken = everBroke = true
    const exchange = new Exchange(res, (answer) => {
      inFlight.leave([])
      if (inFlight.now < healsBelow) broken = false
      entry.answer = answer
      entry.ms = performance.now() - since
    })
    return { entry, exchange }
  }

  function strike(exchange: Exchange, entry: ShippingEntry, answer: () => Answer): void {
    const fault: FaultOptions | undefined =
      faults.strike(
        ({ call, orderId, email }) =>
          (call === undefined || call === entry.call) &&
          (orderId === undefined || orderId === entry.orderId) &&
          (email === undefined || email === entry.email),
      ) ?? (broken ? chance.oneOf(breakages) : undefined)
    if (fault) entry.fault = fault.fault
    carryOut(exchange, () => (manners.instant ? answer() : inTime(answer)), waits, fault)
  }

  function inTime(answer: () => Answer): Promise<Answer> {
    return manners.real ? capacity.serve(() => undefined, answer) : turn().then(answer)
  }

  /** Calls are served one after the other, in 3 to 5 ms each: the 240 a second of the real one, which is why many at once pile up. */
  function turn(): Promise<void> {
    const now = performance.now()
    busyUntil = Math.max(now, busyUntil) + chance.between(3, 5)
    return waits.pause(busyUntil - now)
  }

  return {
    base: listener.base,
    shipments: (orderId) => (orderId === undefined ? shipments.values().flat() : (shipments.get(orderId) ?? [])).map((one) => ({ ...one })),
    count: (orderId) => shipments.get(orderId)?.length ?? 0,
    fault: (fault) => faults.add(fault),
    removeFault: (id) => faults.remove(id),
    clearFaults: () => faults.clear(),
    journal: ({ call, orderId, email } = {}) =>
      journal.read(
        (entry) =>
          (call === undefined || entry.call === call) &&
          (orderId === undefined || entry.orderId === orderId) &&
          (email === undefined || entry.email === email),
      ),
    keepJournal: (most) => journal.keep(most),
    inFlightMost: () => inFlight.most,
    broke: () => everBroke,
    forget() {
      journal.forget()
      inFlight.forget()
      everBroke = false
    },
    behave: (changed) => void Object.assign(manners, changed),
    down: listener.down,
    up: listener.up,
    async stop() {
      waits.callOff()
      await listener.down()
      // Once more: what was under way may have put something off meanwhile.
      waits.callOff()
    },
  }
}
