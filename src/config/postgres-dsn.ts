/** Reads `sslmode` of POSTGRES_DSN as libpq does. slonik and pg each read it differently (docs/decisions/0023). */
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { checkServerIdentity, type ConnectionOptions } from 'node:tls'

/** Options of a pg client. */
export interface PostgresOptions {
  /** The DSN without its TLS parameters. */
  connectionString: string
  ssl: ConnectionOptions | false
}

const EXAMPLE = 'postgresql://user:password@host:5432/database'
const MODES = 'write sslmode=disable, require, verify-ca or verify-full'
const supported = ['sslmode', 'sslrootcert', 'sslcert', 'sslkey']

/**
 * Reads the files that the DSN names.
 * @throws Error whose message follows the variable's name. Of the value it contains only parameter names and file names
 */
export function readPostgresDsn(dsn: string): PostgresOptions {
  if (!/^postgres(ql)?:\/\//.test(dsn)) throw new Error(`is not a PostgreSQL URL; write ${EXAMPLE}`)
  if (!URL.canParse(dsn)) throw new Error(`is not a valid URL; write ${EXAMPLE} and percent-encode special characters in the password`)
  requireDecodable(dsn)
  const [address = '', query = ''] = dsn.split(/\?(.*)/s, 2)
  const parameters = query.split('&')
  const isTls = (parameter: string) => parameter.startsWith('ssl')
  const tls = Object.fromEntries(new URLSearchParams(parameters.filter(isTls).join('&').replaceAll('+', '%2B')))
  const rest = parameters.filter((parameter) => !isTls(parameter)).join('&')
  return { connectionString: rest === '' ? address : `${address}?${rest}`, ssl: tlsOf(tls, hostOf(address)) }
}

function requireDecodable(dsn: string): void {
  try {
    decodeURIComponent(dsn)
  } catch {
    throw new Error('has a % that does not begin an encoded character; write %25 for a percent sign')
  }
}

function tlsOf({ sslmode = 'disable', sslrootcert, sslcert, sslkey, ...others }: Record<string, string>, host: string) {
  const [other] = Object.keys(others)
  if (other !== undefined) throw new Error(`has an unsupported parameter ${other}; the TLS parameters are ${supported.join(', ')}`)
  if (sslmode === 'disable') {
    if (sslrootcert ?? sslcert ?? sslkey) throw new Error(`names certificates but has no sslmode that uses them; ${MODES}`)
    return false
  }
  if (sslmode === 'prefer' || sslmode === 'allow')
    throw new Error(`has sslmode=${sslmode}, which can fall back to a connection without TLS; ${MODES}`)
  if (!['require', 'verify-ca', 'verify-full'].includes(sslmode)) throw new Error(`has an unknown sslmode; ${MODES}`)
  if ((sslcert === undefined) !== (sslkey === undefined)) throw new Error('has only one of sslcert and sslkey; write both or neither')
  if (sslrootcert === 'system' && sslmode !== 'verify-full')
    throw new Error('has sslrootcert=system, which is only safe with sslmode=verify-full; write that mode')
  if (sslmode !== 'require' && sslrootcert === undefined) {
    throw new Error(`has sslmode=${sslmode} without sslrootcert; write the path of the CA's PEM file, or system for verify-full`)
  }
  return {
    ...identification(sslmode, sslrootcert, host),
    ...(sslrootcert === undefined || sslrootcert === 'system' ? {} : { ca: read('sslrootcert', sslrootcert) }),
    ...(sslcert === undefined ? {} : { cert: read('sslcert', sslcert) }),
    ...(sslkey === undefined ? {} : { key: read('sslkey', sslkey) }),
  } satisfies ConnectionOptions
}

function identification(sslmode: string, sslrootcert: string | undefined, host: string): ConnectionOptions {
  // As in libpq, `require` with a root certificate is `verify-ca`.
  if (sslrootcert === undefined) return { rejectUnauthorized: false }
  if (sslmode !== 'verify-full') return { checkServerIdentity: () => undefined }
  // For an IP address Node would look for `localhost` in the certificate.
  return isIP(host) ? { checkServerIdentity: (_host, certificate) => checkServerIdentity(host, certificate) } : {}
}

function read(parameter: string, path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const { code } = error as { code?: string }
    throw new Error(`has ${parameter}=${path}, which cannot be read (${code}); write the path of a PEM file`, { cause: error })
  }
}

/** Empty for a DSN of a local socket, where no host name is verified. */
const hostOf = (address: string) => new URL(address).hostname.replace(/^\[(.*)\]$/, '$1')
