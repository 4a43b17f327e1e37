/**
 * The statements of src/db/acquire-calls.ts, stock-calls.ts and reconciliation.ts on tables in memory: each does at once what its original does in one
 * statement, or transaction. parity.test.ts holds them to the originals.
 */
import type { Explanation, ProductLease, Seen } from '../../../src/db/reconciliation.ts'
import { MAY_ACT_MS } from '../../../src/db/reconciliation.ts'
import { effects, type NextCall } from '../../../src/db/stock-calls.ts'
import type { Member, MemberState, AcquiredCall, WantedCall } from '../../../src/db/acquire-calls.ts'
import type { StockVerb } from '../../../src/model.ts'
import type { OrderStatements } from './order-statements.ts'
import type { CallRow, ChangeRow, ProductRow, Tables, UnansweredRow } from './tables.ts'

/** A part of a call that happened, and what of it goes to those who wanted it. */
export interface Part {
  callId: number
  /** Not so of a product that its members want, and that is read for itself. */
  isPart: boolean
  productId: number
  held: number
  expectedStock: number
}

const WANTED_MS = 1000
const holdOf = (verb: CallRow['verb']) => (verb === 'check' ? 0 : effects[verb].hold)
const stockOf = (verb: CallRow['verb']) => (verb === 'check' ? 0 : effects[verb].stock)

export type StockStatements = ReturnType<typeof stockStatements>

/** A commit lowers `reserved` to 0 at the least: what it lowered less were holds that Catalog had lost, or that were never there. */
function stopAtZero(row: ProductRow, committed: number): void {
  const notLowered = Math.max(0, committed - Math.max(0, row.held + row.foreignHolds + row.holdCorrection))
  const notMissing = Math.min(notLowered, Math.max(0, -row.foreignHolds))
  row.foreignHolds += notMissing
  row.holdCorrection += notLowered - notMissing
}

/** @see recordCalls in src/db/stock-calls.ts. @returns products whose part was kept for later */
export function recordCalls(tables: Tables, parts: readonly Part[]): number[] {
  const late: number[] = []
  const free = new Map([...new Set(parts.map((part) => part.productId))].map((id) => [id, !tables.isLocked('products', id)]))
  for (const { callId, productId, held, expectedStock, isPart } of parts) {
    const row = tables.products.get(productId)
    if (isPart && row?.call && (row.call.id === callId || !tables.on.fencing) && free.get(productId)) {
      const { verb, qty } = row.call
      stopAtZero(row, verb === 'commit' ? qty : 0)
      row.held += held
      row.holdCorrection += holdOf(verb) * qty - held
      if (row.expectedStock !== null) row.expectedStock += expectedStock
      row.stockCorrection += stockOf(verb) * qty - expectedStock
      row.call = null
    } else {
      tables.changes.push({ productId, callId: isPart ? callId : null, held, expectedStock })
      late.push(productId)
    }
  }
  return late
}

/** @param orders what a call that turns out to have happened does to those in it */
export function stockStatements(tables: Tables, orders: Pick<OrderStatements, 'recordHolds' | 'recordPaid'>) {
  const { products, now } = tables
  const isFree = (productId: number) => !tables.isLocked('products', productId)
  const isExpired = (call: CallRow) => call.expiresAt < now()
  const mayAct = ({ found, since }: UnansweredRow) => found === null || (found === 'not-happened' && since > now() - MAY_ACT_MS)
  const isUnresolved = (productId: number) => tables.unanswered.some((call) => call.productId === productId && call.found === null)

  function writeUnanswered(productId: number, { id: callId, verb, qty }: CallRow): void {
    if (verb !== 'check' && tables.on.memory) tables.unanswered.push({ callId, productId, verb, qty, since: now(), found: null })
  }

  /** Rows that a statement finds free, by their ids. */
  function lock(productIds: Iterable<number>, isMeant: (row: ProductRow) => boolean): Map<number, ProductRow> {
    const free = new Map<number, ProductRow>()
    for (const id of [...new Set(productIds)].sort((a, b) => a - b)) {
      const row = products.get(id)
      if (row && isMeant(row) && isFree(id)) free.set(id, row)
    }
    return free
  }

  function stateOf(
    verb: WantedCall['verb'],
    member: Member,
    known: Map<number, { attempt: number; state: MemberState }>,
    holds?: number,
  ): MemberState {
    const row = known.get(member.id)
    if (!row) return 'locked'
    if (row.attempt !== member.attempt) return 'ended'
    return row.state === 'ready' && earlierCalls(verb, member.id).some((callId) => isOpen(callId, member, holds)) ? 'unresolved' : row.state
  }

  const isOpen = (callId: number, { products: items }: Member, holds?: number) =>
    (callId !== holds && items.some(({ productId }) => products.get(productId)?.call?.id === callId)) ||
    tables.unanswered.some((call) => call.callId === callId && call.found === null)

  function earlierCalls(verb: WantedCall['verb'], id: number): number[] {
    if (verb !== 'commit') return tables.checkouts.has(id) ? [tables.checkouts.get(id)!.callId] : []
    const orderId = tables.events.get(id)?.orderId
    return [...tables.events.values()].flatMap((event) => (event.orderId === orderId && event.callId !== null ? [event.callId] : []))
  }

  /** What the rows of those who would be in a call say. */
  function readMembers(verb: WantedCall['verb'], ids: readonly number[]): Map<number, { attempt: number; state: MemberState }> {
    const known = new Map<number, { attempt: number; state: MemberState }>()
    if (verb !== 'commit') {
      for (const id of new Set(ids)) {
        const row = tables.checkouts.get(id)
        if (!row || tables.isLocked('checkouts', id)) continue
        const hasEnded = row.state !== 'OPEN' || row.deadlineAt <= now()
        known.set(id, { attempt: row.attempt, state: hasEnded ? 'ended' : row.recoveryPoint === 'reserve-stock' ? 'recorded' : 'ready' })
      }
      return known
    }
    const free = [...new Set(ids)].filter((id) => tables.events.has(id) && !tables.isLocked('events', id))
    const orderIds = new Set(free.map((id) => tables.events.get(id)!.orderId))
    const freeOrders = new Set([...orderIds].filter((id) => tables.orders.has(id) && !tables.isLocked('orders', id)))
    for (const id of free) {
      const { orderId, attempt, state } = tables.events.get(id)!
      if (!freeOrders.has(orderId)) continue
      const first = Math.min(...free.filter((other) => tables.events.get(other)!.orderId === orderId))
      const hasEnded = state !== 'WAITING' || tables.orders.get(orderId)!.status !== 'CREATED'
      known.set(id, { attempt, state: hasEnded ? 'ended' : id > first ? 'unresolved' : 'ready' })
    }
    return known
  }

  function acquireCalls(calls: readonly WantedCall[], { by, leaseMs }: { by: string; leaseMs: number }): AcquiredCall[] {
    const isCommit = calls.some(({ verb }) => verb === 'commit')
    const holds = calls.flatMap((call) => call.holds ?? [])
    const known = readMembers(
      isCommit ? 'commit' : 'reserve',
      calls.flatMap(({ members }) => members.map(({ id }) => id)),
    )
    const states = calls.map(({ members, holds: held }) =>
      members.map((member) => stateOf(isCommit ? 'commit' : 'reserve', member, known, held)),
    )
    const isOurs = (call: CallRow | null) => call !== null && holds.includes(call.id)
    const stock = lock(
      calls.flatMap((call) => call.productIds),
      ({ call, wantedBy, wantedUntil }) =>
        (call === null || isExpired(call) || isOurs(call) || !tables.on.lease) &&
        (wantedBy === null || wantedBy === by || wantedUntil < now() || isOurs(call) || !tables.on.lease),
    )
    const before = new Map([...products].map(([id, row]) => [id, { ...row }]))
    const results = calls.map((wanted, g): AcquiredCall => take(wanted, states[g]!, stock, { by, leaseMs }))
    markBusy(calls, stock, holds, by, before)
    return results
  }

  function take(
    { callId, verb, productIds, members, holds, more }: WantedCall,
    states: readonly MemberState[],
    stock: Map<number, ProductRow>,
    { by, leaseMs }: { by: string; leaseMs: number },
  ): AcquiredCall {
    const isFit = productIds.every((id) => {
      const row = stock.get(id)
      return row && (!row.call || isExpired(row.call) || row.call.id === holds || !tables.on.lease)
    })
    const needsCheck = (id: number) => {
      const { expectedStock, call } = stock.get(id)!
      return expectedStock === null || (call !== null && call.id !== holds && tables.on.lease) || isUnresolved(id)
    }
    const checks = isFit ? productIds.filter(needsCheck) : []
    const isAcquired =
      isFit && (verb === 'check' || states.some((state) => state === 'ready' || (state === 'unresolved' && checks.length > 0)))
    if (!isAcquired) {
      const isFreeSomewhere = ({ call }: ProductRow) => call === null || isExpired(call)
      return {
        isAcquired: false,
        checks: [],
        expiresAt: 0,
        members: [...states],
        unknown: productIds.filter((id) => !products.has(id)),
        isLocked: !isFit && productIds.some((id) => products.has(id) && !stock.has(id) && isFreeSomewhere(products.get(id)!)),
      }
    }
    const sent = checks.length > 0 ? 'check' : verb
    const inside = sent === 'check' ? [] : members.filter((_, i) => states[i] === 'ready')
    const expiresAt = now() + leaseMs
    for (const id of productIds) {
      const row = stock.get(id)!
      if (row.call && row.call.id !== holds) writeUnanswered(id, row.call)
      const qty = inside.reduce((sum, member) => sum + (member.products.find(({ productId }) => productId === id)?.qty ?? 0), 0)
      row.call = { id: callId, verb: sent, qty, expiresAt, by }
      row.wantedBy = more ? by : null
      row.wantedUntil = now() + WANTED_MS
      if (sent === 'check') row.isReconciling = true
    }
    for (const { id } of inside) {
      if (verb === 'commit') tables.events.get(id)!.callId = callId
      else tables.checkouts.get(id)!.callId = callId
    }
    return { isAcquired: true, checks, expiresAt: Math.floor(expiresAt), members: [...states], unknown: [], isLocked: false }
  }

  /** It is our turn next. @param before the rows as the statement found them */
  function markBusy(
    calls: readonly WantedCall[],
    stock: Map<number, ProductRow>,
    holds: readonly number[],
    by: string,
    before: Map<number, ProductRow>,
  ): void {
    const isFit = ({ productIds, holds: held }: WantedCall) =>
      productIds.every((id) => {
        const call = before.get(id)?.call
        return stock.has(id) && (!call || isExpired(call) || call.id === held || !tables.on.lease)
      })
    const unfit = calls.filter((call) => !isFit(call)).flatMap((call) => call.productIds)
    const isBusy = ({ call, wantedBy, wantedUntil }: ProductRow) =>
      call !== null &&
      call.expiresAt >= now() &&
      !holds.includes(call.id) &&
      (wantedBy === null || wantedBy === call.by || wantedBy === by || wantedUntil < now())
    for (const id of new Set(unfit)) {
      const was = before.get(id)
      if (was && isBusy(was) && isFree(id)) Object.assign(products.get(id)!, { wantedBy: by, wantedUntil: now() + WANTED_MS })
    }
  }

  function applyChanges(productId: number): boolean {
    const row = products.get(productId)
    if (!row || !isFree(productId)) return false
    applyTo(row, productId)
    return true
  }

  function applyTo(row: ProductRow, productId: number): void {
    const gone = tables.changes.filter((change) => change.productId === productId)
    if (gone.length === 0) return
    tables.changes = tables.changes.filter((change) => change.productId !== productId)
    const isGone = (callId: number) => gone.some((change) => change.callId === callId)
    const happened: { verb: CallRow['verb']; qty: number }[] = []
    for (const call of tables.unanswered) {
      if (call.productId !== productId || !isGone(call.callId) || call.found === 'happened') continue
      call.found = 'happened'
      happened.push(call)
    }
    const isOver = row.call !== null && isGone(row.call.id)
    if (isOver) happened.push(row.call!)
    const sum = <T>(rows: readonly T[], of: (row: T) => number) => rows.reduce((total, one) => total + of(one), 0)
    const held = sum(gone, (change: ChangeRow) => change.held)
    const expected = sum(gone, (change: ChangeRow) => change.expectedStock)
    const committed = sum(happened, ({ verb, qty }) => (verb === 'commit' ? qty : 0))
    stopAtZero(row, committed)
    row.held += held
    row.holdCorrection += sum(happened, ({ verb, qty }) => holdOf(verb) * qty) - held
    if (row.expectedStock !== null) row.expectedStock += expected
    row.stockCorrection += sum(happened, ({ verb, qty }) => stockOf(verb) * qty) - expected
    if (isOver) row.call = null
  }

  const mine = ({ productId, callId }: ProductLease) => {
    const row = products.get(productId)
    return row?.call?.id === callId ? row : undefined
  }

  function countersOf({ expectedStock, held, foreignHolds, holdCorrection, stockCorrection }: ProductRow): Seen['row'] {
    return { expectedStock, held, foreignHolds, holdCorrection, stockCorrection }
  }

  function recordHappened(callId: number, verb: StockVerb, productId: number): void {
    const byCheckouts = [...tables.checkouts].filter(([, row]) => row.state === 'OPEN' && row.callId === callId)
    const byEvents = [...tables.events].filter(([, row]) => row.state === 'WAITING' && row.callId === callId)
    const call = { callId, productIds: [productId] }
    if (verb === 'commit') {
      const members = byEvents.map(([eventId, row]) => ({ eventId, products: tables.orders.get(row.orderId)?.items ?? [] }))
      orders.recordPaid([{ ...call, members }], false)
    } else if (verb === 'reserve') {
      const open = byCheckouts.filter(([, row]) => row.recoveryPoint === 'intent')
      orders.recordHolds([{ ...call, members: open.map(([orderId, row]) => ({ orderId, products: row.lines })) }], false)
    } else {
      recordAnswered(call)
    }
  }

  function recordAnswered({ callId, productIds }: { callId: number; productIds: readonly number[] }): void {
    recordCalls(
      tables,
      productIds.map((productId) => ({ callId, productId, held: 0, expectedStock: 0, isPart: true })),
    )
  }

  function settle(row: ProductRow): void {
    const { foreignHolds, holdCorrection } = row
    const moved =
      foreignHolds < 0 && holdCorrection > 0
        ? Math.min(holdCorrection, -foreignHolds)
        : foreignHolds <= 0 && holdCorrection < 0
          ? holdCorrection
          : 0
    row.foreignHolds += moved
    row.holdCorrection -= moved
    row.isReconciling = !(row.holdCorrection === 0 && row.stockCorrection === 0 && row.foreignHolds >= 0)
  }

  return {
    acquireCalls,
    addProducts(productIds: readonly number[]): void {
      for (const id of productIds) if (!products.has(id)) products.set(id, newProduct())
    },
    continueCall(
      { callId, productIds }: { callId: number; productIds: readonly number[] },
      { next, isUnanswered = false, leaseMs }: { next?: NextCall; isUnanswered?: boolean; leaseMs: number },
    ): number | undefined {
      const rows = lock(productIds, ({ call }) => call?.id === callId)
      if (rows.size !== productIds.length) return undefined
      const expiresAt = now() + leaseMs
      for (const [id, row] of rows) {
        const call = row.call!
        if (isUnanswered) writeUnanswered(id, call)
        row.call = { ...call, id: next?.callId ?? callId, verb: next?.verb ?? call.verb, qty: next?.qty ?? call.qty, expiresAt }
      }
      return Math.floor(expiresAt)
    },
    releaseCalls(calls: readonly { callId: number; productIds: readonly number[] }[]): void {
      for (const { callId, productIds } of calls) for (const [, row] of lock(productIds, ({ call }) => call?.id === callId)) row.call = null
    },
    applyChanges,
    readProduct(lease: ProductLease): Seen | undefined {
      if (!applyChanges(lease.productId)) return undefined
      const row = mine(lease)
      if (!row) return undefined
      const calls = tables.unanswered
        .filter((call) => call.productId === lease.productId && mayAct(call))
        .sort((a, b) => a.since - b.since || a.callId - b.callId)
        .map(({ callId, verb, qty, found }) => ({ callId, verb, qty, isChecked: found !== null }))
      return { row: countersOf(row), calls }
    },
    recordExplanation(lease: ProductLease, { row: seen, calls }: Seen, explanation: Explanation): boolean {
      const { productId } = lease
      const row = mine(lease)
      if (!row || JSON.stringify(countersOf(row)) !== JSON.stringify(seen) || !isFree(productId)) return false
      if (explanation.isFirst) {
        const { inStock, reserved } = explanation
        Object.assign(row, { expectedStock: inStock, foreignHolds: reserved - row.held, holdCorrection: 0, stockCorrection: 0 })
      } else {
        const { happened, unexplained, followed, ambiguities } = explanation
        for (const { callId, verb, isChecked } of happened) {
          if (isChecked) recordAnswered({ callId, productIds: [productId] })
          else recordHappened(callId, verb, productId)
        }
        const note = { productId, reason: null, callId: null }
        for (const { callId, verb, qty } of happened) tables.reconciliations.push({ ...note, verb, qty, result: 'happened', callId })
        if (unexplained !== 0) tables.reconciliations.push({ ...note, verb: 'unexplained', qty: unexplained, result: 'seen' })
        if (followed !== 0) tables.reconciliations.push({ ...note, verb: 'follow', qty: followed, result: 'seen' })
        for (const ambiguity of ambiguities) tables.ambiguities.push({ productId, ...ambiguity })
        for (const call of tables.unanswered) {
          const isOther = calls.some(({ callId }) => callId === call.callId) && !happened.some(({ callId }) => callId === call.callId)
          if (call.productId === productId && isOther && call.found !== 'happened') call.found = 'not-happened'
          const isReopened = call.productId !== productId && happened.some(({ callId }) => callId === call.callId)
          if (isReopened && call.found === 'not-happened') call.found = null
        }
        row.holdCorrection += unexplained
        row.expectedStock! += followed
        applyTo(row, productId)
      }
      settle(row)
      return true
    },
    recordAnswered,
    recordCorrection(
      productId: number,
      {
        callId,
        verb,
        qty,
        reason,
        result,
      }: { callId: number; verb: StockVerb; qty: number; reason: string; result: 'done' | 'refused' | 'unanswered' },
    ): void {
      tables.reconciliations.push({ productId, verb, qty, result, reason, callId })
    },
    recordSold(lease: ProductLease): void {
      const { productId } = lease
      const row = mine(lease)
      if (!row || row.stockCorrection <= 0 || !isFree(productId)) return
      const sold = row.stockCorrection
      tables.reconciliations.push({ productId, verb: 'follow', qty: sold, result: 'seen', reason: null, callId: null })
      const explanation = 'too many restocked, and sold before they could be taken back'
      tables.ambiguities.push({ productId, tooMany: sold, tooFew: 0, explanation })
      row.expectedStock! += sold
      row.stockCorrection = 0
    },
    needsReconciling(productId: number): boolean {
      const row = products.get(productId)
      if (!row) return false
      return (
        isInNeed(row) ||
        tables.changes.some((change) => change.productId === productId) ||
        tables.unanswered.some((call) => call.productId === productId && mayAct(call))
      )
    },
    productsToReconcile(): number[] {
      const found = new Set<number>()
      for (const [id, row] of products) if (isInNeed(row)) found.add(id)
      for (const { productId } of tables.changes) if (products.has(productId)) found.add(productId)
      for (const call of tables.unanswered) if (mayAct(call)) found.add(call.productId)
      return [...found].sort((a, b) => a - b)
    },
  }
}

const isInNeed = ({ holdCorrection, stockCorrection, foreignHolds, isReconciling }: ProductRow) =>
  holdCorrection !== 0 || stockCorrection !== 0 || foreignHolds < 0 || isReconciling

export const newProduct = (): ProductRow => ({
  expectedStock: null,
  held: 0,
  foreignHolds: 0,
  holdCorrection: 0,
  stockCorrection: 0,
  call: null,
  wantedBy: null,
  wantedUntil: 0,
  isReconciling: false,
})
