/** TLS and SASL settings for Kafka. Values are named as in Kafka's own clients (`security.protocol`, `sasl.mechanism`). */
import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'

export const kafkaProtocols = ['PLAINTEXT', 'SSL', 'SASL_PLAINTEXT', 'SASL_SSL'] as const
export const saslMechanisms = ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'] as const

/** Options of kafkajs. */
export interface KafkaSecurity {
  ssl?: ConnectionOptions
  sasl?: { mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512'; username: string; password: string }
}

/** Environment variables as they were set. Those named KAFKA_SSL_* are paths of PEM files. */
export interface KafkaVariables {
  KAFKA_SECURITY_PROTOCOL: (typeof kafkaProtocols)[number]
  KAFKA_SASL_MECHANISM?: (typeof saslMechanisms)[number] | undefined
  KAFKA_SASL_USERNAME?: string | undefined
  KAFKA_SASL_PASSWORD?: string | undefined
  KAFKA_SSL_CA?: string | undefined
  KAFKA_SSL_CERT?: string | undefined
  KAFKA_SSL_KEY?: string | undefined
}

/** Reads the files. @returns the options, and one line without secrets for each variable that is wrong */
export function readKafkaSecurity(variables: KafkaVariables): { security: KafkaSecurity; faults: string[] } {
  const { KAFKA_SECURITY_PROTOCOL: protocol, KAFKA_SASL_MECHANISM: mechanism } = variables
  const { KAFKA_SASL_USERNAME: username, KAFKA_SASL_PASSWORD: password } = variables
  const faults: string[] = []
  const security: KafkaSecurity = {}

  const withSasl = protocol.startsWith('SASL_')
  const sasl = { KAFKA_SASL_MECHANISM: mechanism, KAFKA_SASL_USERNAME: username, KAFKA_SASL_PASSWORD: password }
  for (const [name, value] of Object.entries(sasl)) {
    if (withSasl && value === undefined) faults.push(`${name}: missing; KAFKA_SECURITY_PROTOCOL=${protocol} needs it`)
    if (!withSasl && value !== undefined)
      faults.push(`${name}: not used with KAFKA_SECURITY_PROTOCOL=${protocol}; write KAFKA_SECURITY_PROTOCOL=SASL_SSL`)
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
    if (!withTls) faults.push(`${name}: not used with KAFKA_SECURITY_PROTOCOL=${protocol}; write KAFKA_SECURITY_PROTOCOL=SSL or SASL_SSL`)
    try {
      Object.assign(tls, { [option]: readFileSync(path, 'utf8') })
    } catch (error) {
      faults.push(`${name}: ${JSON.stringify(path)} cannot be read (${(error as { code?: string }).code}); write the path of a PEM file`)
    }
  }
  const { KAFKA_SSL_CERT, KAFKA_SSL_KEY } = variables
  if ((KAFKA_SSL_CERT === undefined) !== (KAFKA_SSL_KEY === undefined)) {
    const [missing, given] = KAFKA_SSL_CERT === undefined ? ['KAFKA_SSL_CERT', 'KAFKA_SSL_KEY'] : ['KAFKA_SSL_KEY', 'KAFKA_SSL_CERT']
    faults.push(`${missing}: missing; ${given} needs it`)
  }
  if (withTls) security.ssl = tls
  return { security, faults }
}
