/** The way out where a server can neither be found nor installed: the containers of `deploy/docker-compose.yaml`. */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { Job } from './processes.ts'
import { checkout } from './state.ts'

const wayOut = {
  postgres: 'install PostgreSQL 14 or newer, or set POSTGRES_DSN',
  redis: 'install Redis 6.2 or newer, or set REDIS_URL',
  kafka: 'install Java 17 or newer and Maven, or set KAFKA_BOOTSTRAP',
}

/**
 * One container in the foreground, so that it lives and ends like any other program we start.
 * @throws with what to do instead, where docker does not answer
 */
export function dockerJob(service: keyof typeof wayOut, directory: string, ports: Record<string, number>): Job {
  if (spawnSync('docker', ['compose', 'ls'], { stdio: 'ignore' }).status !== 0) {
    throw new Error(`${service} is missing and cannot be installed here: ${wayOut[service]} (or start Docker)`)
  }
  const project = `order-${createHash('sha256').update(directory).digest('hex').slice(0, 12)}-${service}`
  const file = join(checkout, 'deploy', 'docker-compose.yaml')
  return {
    command: ['docker', 'compose', '--project-name', project, '--file', file, 'up', '--no-log-prefix', '--no-deps', service],
    env: Object.fromEntries(Object.entries(ports).map(([name, port]) => [name, String(port)])),
    stopSignal: 'SIGINT',
    graceMs: 20_000,
  }
}
