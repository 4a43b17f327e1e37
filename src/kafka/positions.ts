/** Where Kafka puts the messages of a send: kafkajs returns only the first offset of each partition. */
import { type ICustomPartitioner, type Message as Sent, Partitioners, type RecordMetadata } from 'kafkajs'

export interface Position {
  partition: number
  offset: bigint
}

export interface Positions {
  partitioner: ICustomPartitioner
  /** @returns the position of each message of one send, in their order; undefined where kafkajs does not tell */
  of(messages: readonly Sent[], answer: readonly RecordMetadata[]): (Position | undefined)[]
}

export function createPositions(): Positions {
  const chosen = new WeakMap<Sent, number>()
  return {
    partitioner: () => {
      const choose = Partitioners.DefaultPartitioner()
      return (given) => {
        const partition = choose(given)
        chosen.set(given.message, partition)
        return partition
      }
    },
    of(messages, answer) {
      const next = new Map(
        answer.map(({ partition, baseOffset }) => [partition, baseOffset === undefined ? undefined : BigInt(baseOffset)] as const),
      )
      return messages.map((message) => {
        const partition = chosen.get(message)
        const offset = partition === undefined ? undefined : next.get(partition)
        if (partition === undefined || offset === undefined || offset < 0n) return undefined
        next.set(partition, offset + 1n)
        return { partition, offset }
      })
    },
  }
}
