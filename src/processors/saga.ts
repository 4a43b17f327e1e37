/** Runs named steps one after the other. It knows nothing of orders: steps and callers decide what a step does and what a fault means. */
import type { Fault } from '../causes.ts'
import type { Rejection } from '../model.ts'

/** `fault`: why, where the customer is not at fault. */
export interface Refused extends Rejection {
  fault?: Fault | undefined
}

/** A step of a saga. A refusal is an outcome and returns; a fault is an exception, and the step may run again. */
export interface Step<Name extends string, Context> {
  name: Name
  do(context: Context): Promise<Refused | void>
}

/** Called when each step begins and when it ends. */
export interface SagaObserver<Name extends string> {
  began(step: Name): void
  ended(step: Name, result: 'done' | 'rejected' | 'fault', seconds: number): void
}

/** @returns the rejection of the step that refused, or undefined where all are done; throws what a step throws */
export async function runSaga<Name extends string, Context>(
  steps: readonly Step<Name, Context>[],
  context: Context,
  observer: SagaObserver<Name>,
): Promise<{ step: Name; rejection: Refused } | undefined> {
  for (const step of steps) {
    observer.began(step.name)
    const began = performance.now()
    const ended = (result: 'done' | 'rejected' | 'fault') => observer.ended(step.name, result, (performance.now() - began) / 1000)
    let rejection: Refused | void
    try {
      rejection = await step.do(context)
    } catch (error) {
      ended('fault')
      throw error
    }
    ended(rejection ? 'rejected' : 'done')
    if (rejection) return { step: step.name, rejection }
  }
  return undefined
}
