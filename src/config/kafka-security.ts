/** How Kafka is reached: the words are those of Kafka's own clients (`security.protocol`, `sasl.mechanism`). */
import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'

export const kafkaProtocols = ['PLAINTEXT', 'SSL', 'SASL_PLAINTEXT', 'SASL_SSL'] as const
export const saslMechanisms = ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'] as const

/** As kafkajs takes it. */
export interface KafkaSecurity {
  ssl?: ConnectionOptions
  sasl?: { mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512'; username: string; password: string }
}

/** The variables it is made of, each as it was set. Those of SSL are paths of PEM files. */
export interface KafkaVariables {
  KAFKA_SECURITY_PROTOCOL: (typeof kafkaProtocols)[number]
  KAFKA_SASL_MECHANISM?: (typeof saslMechanisms)[number] | undefined
  KAFKA_SASL_USERNAME?: string | undefined
  KAFKA_SASL_PASSWORD?: string | undefined
  KAFKA_SSL_CA?: string | undefined
  KAFKA_SSL_CERT?: string | undefined
  KAFKA_SSL_KEY?: string | undefined
}

/** Reads the files. @returns the security, and one line for each variable that is wrong, with no secret in it */
export function readKafkaSecurity(variables: KafkaVariables): { security: KafkaSecurity; faults: string[] } {
  const { KAFKA_SECURITY_PROTOCOL: protocol, KAFKA_SASL_MECHANISM: mechanism } = variables
  const { KAFKA_SASL_USERNAME: username, KAFKA_SASL_PASSWORD: password } = variables
  const faults: string[] = []
  const security: KafkaSecurity = {}

  const withSasl = protocol.startsWith('SASL_')
  const sasl = { KAFKA_SASL_MECHANISM: mechanism, KAFKA_SASL_USERNAME: username, KAFKA_SASL_PASSWORD: password }
  for (const [name, value] of Object.entries(sasl)) {
    if (withSasl && value === undefined) faults.push(`${name} is missing; KAFKA_SECURITY_PROTOCOL=${protocol} needs it`)
    if (!withSasl && value !== undefined) faults.push(`${name} is not used with KAFKA_SECURITY_PROTOCOL=${protocol}; write SASL_SSL there`)
  }
  if (withSasl && mechanism !== undefined && username !== undefined && password !== undefined) {
    security.sasl = { mechanism: mechanism.toLowerCase() as Lowercase<typeof mechanism>, username, password }
  }

  const withTls = protocol.endsWith('SSL')
  const files = { ca: 'KAFKA_SSL_CA', cert: 'KAFKA_SSL_CERT', key: 'KAFKA_SSL_KEY' } as const
  const tls: ConnectionOptions = {}
  for (const [option, name] of Object.entries(files)) {
    const path = variables[name]
    if (path === undefined) continue
    if (!withTls) faults.push(`${name} is not used with KAFKA_SECURITY_PROTOCOL=${protocol}; write SSL or SASL_SSL there`)
    try {
      Object.assign(tls, { [option]: readFileSync(path, 'utf8') })
    } catch (error) {
      faults.push(`${name} cannot be read: ${path} (${(error as { code?: string }).code})`)
    }
  }
  const { KAFKA_SSL_CERT, KAFKA_SSL_KEY } = variables
  if ((KAFKA_SSL_CERT === undefined) !== (KAFKA_SSL_KEY === undefined)) {
    const [missing, given] = KAFKA_SSL_CERT === undefined ? ['KAFKA_SSL_CERT', 'KAFKA_SSL_KEY'] : ['KAFKA_SSL_KEY', 'KAFKA_SSL_CERT']
    faults.push(`${missing} is missing; ${given} is of no use without it`)
  }
  if (withTls) security.ssl = tls
  return { security, faults }
}
