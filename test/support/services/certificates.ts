/** Certificates for servers on `localhost`, made by openssl when a test needs them: files of PEM in a directory. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { find } from './install.ts'

/** Paths. */
export interface Certificates {
  ca: string
  /** The CA of somebody else. */
  otherCa: string
  /** For the name localhost, not for its address. */
  serverCertificate: string
  serverKey: string
  /** Key and certificate in one file, as Kafka wants them. */
  serverStore: string
  clientCertificate: string
  clientKey: string
}

export function makeCertificates(directory: string): Certificates {
  mkdirSync(directory, { recursive: true })
  const path = (name: string) => join(directory, name)
  /** Signed by itself, unless more is said. */
  function make(name: string, subject: string, more: string[] = []): { certificate: string; key: string } {
    const files = { certificate: path(`${name}.pem`), key: path(`${name}.key`) }
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', files.key]
    const openssl = find('openssl')
    if (!openssl) throw new Error('openssl is not on PATH, and the tests of TLS need it: install the package openssl')
    const { status, stderr, error } = spawnSync(
      openssl,
      ['req', '-x509', ...key, '-out', files.certificate, '-days', '2', '-subj', `/CN=${subject}`, ...more],
      { encoding: 'utf8' },
    )
    if (status !== 0) throw new Error(`openssl could not make a certificate: ${error?.message ?? stderr}`)
    return files
  }
  const ca = make('ca', 'test-ca')
  const signed = ['-CA', ca.certificate, '-CAkey', ca.key, '-addext', 'basicConstraints=critical,CA:FALSE']
  const server = make('server', 'server', [...signed, '-addext', 'subjectAltName=DNS:localhost'])
  const client = make('client', 'shop', signed)
  const serverStore = path('server-store.pem')
  writeFileSync(serverStore, readFileSync(server.key, 'utf8') + readFileSync(server.certificate, 'utf8'))
  return {
    ca: ca.certificate,
    otherCa: make('other-ca', 'other-ca').certificate,
    serverCertificate: server.certificate,
    serverKey: server.key,
    serverStore,
    clientCertificate: client.certificate,
    clientKey: client.key,
  }
}
