/** `sslmode` of POSTGRES_DSN as libpq has it: slonik and pg each make something else of it (docs/decisions/0023). */
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { checkServerIdentity, type ConnectionOptions } from 'node:tls'

/** For the constructor of a pg client. */
export interface PostgresOptions {
  /** The DSN without what it says of TLS. */
  connectionString: string
  ssl: ConnectionOptions | false
}

const MODES = 'write sslmode=disable, require, verify-ca or verify-full'
const understood = ['sslmode', 'sslrootcert', 'sslcert', 'sslkey']

/**
 * Reads the files that it names.
 * @throws Error whose message goes behind the variable's name; it has nothing of the value but the names of files
 */
export function readPostgresDsn(dsn: string): PostgresOptions {
  if (!/^postgres(ql)?:\/\//.test(dsn)) throw new Error('is not understood; write postgresql://user:password@host:5432/database')
  if (!URL.canParse(dsn))
    throw new Error(
      'is no URL; write postgresql://user:password@host:5432/database, with what is no letter or digit in the password percent-encoded',
    )
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
    throw new Error('has a % that begins no character; write %25 for it')
  }
}

function tlsOf({ sslmode = 'disable', sslrootcert, sslcert, sslkey, ...others }: Record<string, string>, host: string) {
  const [other] = Object.keys(others)
  if (other !== undefined) throw new Error(`has ${other}, which is not understood; of TLS there are ${understood.join(', ')}`)
  if (sslmode === 'disable') {
    if (sslrootcert ?? sslcert ?? sslkey) throw new Error(`names certificates, but no sslmode that uses them; ${MODES}`)
    return false
  }
  if (sslmode === 'prefer' || sslmode === 'allow')
    throw new Error(`has sslmode=${sslmode}, which would do without TLS in silence; ${MODES}`)
  if (!['require', 'verify-ca', 'verify-full'].includes(sslmode)) throw new Error(`has an sslmode that there is not; ${MODES}`)
  if ((sslcert === undefined) !== (sslkey === undefined)) throw new Error('needs sslcert and sslkey together')
  if (sslrootcert === 'system' && sslmode !== 'verify-full')
    throw new Error('has sslrootcert=system, which only sslmode=verify-full makes safe')
  if (sslmode !== 'require' && sslrootcert === undefined) {
    throw new Error(`has sslmode=${sslmode} without sslrootcert; write the path of the CA's certificate (PEM), or for verify-full system`)
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
  // Node would look for `localhost` in the certificate of an address in numbers.
  return isIP(host) ? { checkServerIdentity: (_host, certificate) => checkServerIdentity(host, certificate) } : {}
}

function read(parameter: string, path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new Error(`has an ${parameter} that cannot be read: ${path} (${(error as { code?: string }).code})`, { cause: error })
  }
}

/** A DSN without a host, or with one in its parameters, is for a socket of this machine, where nothing is verified by name. */
const hostOf = (address: string) => new URL(address).hostname.replace(/^\[(.*)\]$/, '$1')
