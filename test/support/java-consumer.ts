/** What Kafka's own consumer, the Java one, reads: the measure for ours. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findKafka } from './services/kafka-distribution.ts'
import { run } from './services/processes.ts'
import { quiet } from './services/report.ts'

/**
 * Everything that Kafka's console consumer shows of a topic with `read_committed`, from where the group stands, else from the beginning.
 * It ends once nothing has come for 10 s.
 * @returns the offsets by partition, in the order in which they came; undefined where there is no Java here
 */
export async function readByJava(
  bootstrap: string,
  { topic, group }: { topic: string; group: string },
): Promise<Map<number, bigint[]> | undefined> {
  const kafka = await findKafka(quiet)
  if (!kafka) return undefined
  const directory = await mkdtemp(join(tmpdir(), 'java-consumer-'))
  const log = join(directory, 'log')
  const options = {
    'bootstrap-server': bootstrap,
    topic,
    group,
    'isolation-level': 'read_committed',
    'timeout-ms': '10000',
  }
  const shown = ['print.partition=true', 'print.offset=true', 'print.value=false'].flatMap((one) => ['--formatter-property', one])
  try {
    await run({
      command: [
        ...kafka.java,
        'org.apache.kafka.tools.consumer.ConsoleConsumer',
        ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]),
        '--from-beginning',
        ...shown,
      ],
      log,
    })
    const offsets = new Map<number, bigint[]>()
    for (const [, partition, offset] of (await readFile(log, 'utf8')).matchAll(/^Partition:(\d+)\tOffset:(\d+)/gm)) {
      offsets.set(Number(partition), [...(offsets.get(Number(partition)) ?? []), BigInt(offset!)])
    }
    return offsets
  } finally {
    await rm(directory, { recursive: true })
  }
}
