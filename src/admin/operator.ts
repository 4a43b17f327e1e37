/** Who acts at the command line, and why: for the record of the action. */
import { hostname, userInfo } from 'node:os'
import type { ActionRequest } from '../operators/action.ts'
import { storable } from '../model.ts'
import { type Command, type Given, UsageError } from './command.ts'

/** Options of each command that changes something. */
export const recordOptions = { operator: { type: 'string' }, reason: { type: 'string' } } as const satisfies Command['options']

function userName(): string {
  try {
    return userInfo().username
  } catch {
    return `uid-${process.getuid?.() ?? 'unknown'}` // a container's user may have no name
  }
}

/**
 * @param otherwise the reason where none is given; undefined: one is required
 * @throws UsageError
 */
export function recordedBy({ operator, reason }: Given['values'], otherwise?: string): Pick<ActionRequest, 'operator' | 'reason'> {
  const why = String(reason ?? otherwise ?? '').trim()
  if (why === '') throw new UsageError('The reason is missing; write --reason TEXT')
  if (!storable(why)) throw new UsageError('The reason contains a NUL or an unpaired surrogate')
  const who = String(operator ?? `${userName()}@${hostname()}`).trim()
  if (who === '' || !storable(who)) throw new UsageError('--operator: the name is empty, or has a NUL or an unpaired surrogate')
  return { operator: who, reason: why }
}

/** The reason of commands that have always worked without one. */
export const AT_COMMAND_LINE = 'from the command line'
