/** Where an offset is gone, kafkajs begins anew without a word. Here its owner is asked first. */
import { createRequire } from 'node:module'
import { type PartitionAssigner, PartitionAssigners } from 'kafkajs'

/**
 * The group wants an offset that the partition does not have: retention removed it, or the topic was made anew and is shorter.
 * @returns the offset to go on at; the group commits it
 */
export type OnOutOfRange = (wanted: { partition: number; offset: bigint }) => Promise<bigint>

interface ConsumerGroup {
  assigners: { onOutOfRange?: OnOutOfRange }[]
  offsetManager: {
    nextOffset(topic: string, partition: number): { toString(): string }
    commitOffsets(offsets: { topics: { topic: string; partitions: { partition: number; offset: string }[] }[] }): Promise<void>
    resolveOffset(offset: { topic: string; partition: number; offset: string }): void
  }
  recoverFromOffsetOutOfRange(error: { topic: string; partition: number }): Promise<void>
}

const patched = new WeakSet<object>()

/** The option `partitionAssigners` of a consumer of one topic: of all options the one that kafkajs hands on to where it recovers. */
export function assignersWith(onOutOfRange: OnOutOfRange): PartitionAssigner[] {
  const require = createRequire(import.meta.url)
  const { prototype } = require('kafkajs/src/consumer/consumerGroup.js') as { prototype: ConsumerGroup }
  if (!patched.has(prototype)) {
    patched.add(prototype)
    const recover = prototype.recoverFromOffsetOutOfRange
    prototype.recoverFromOffsetOutOfRange = async function (error) {
      const { topic, partition } = error
      const handler = this.assigners[0]?.onOutOfRange
      if (!handler) return recover.call(this, error)
      const offset = await handler({ partition, offset: BigInt(String(this.offsetManager.nextOffset(topic, partition))) })
      await this.offsetManager.commitOffsets({ topics: [{ topic, partitions: [{ partition, offset: String(offset) }] }] })
      this.offsetManager.resolveOffset({ topic, partition, offset: String(offset - 1n) })
    }
  }
  return [(config) => ({ ...PartitionAssigners.roundRobin(config), onOutOfRange })]
}
