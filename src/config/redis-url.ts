/** Reads REDIS_URL, which names one server, Sentinels with their master, or a cluster (docs/decisions/0022). */

export interface HostPort {
  host: string
  port: number
}

export interface Login {
  username?: string
  password?: string
}

export type RedisServers =
  | { form: 'server'; url: string }
  /** `login` is for the master, `sentinelLogin` for the Sentinels. */
  | { form: 'sentinel'; sentinels: HostPort[]; master: string; db: number; login: Login; sentinelLogin: Login; tls: boolean }
  | { form: 'cluster'; nodes: HostPort[]; login: Login; tls: boolean }

const EXAMPLES = 'redis://host:6379/0, redis+sentinel://host:26379,host:26379/master/0 or redis+cluster://host:6379,host:6379'
const SENTINEL_PORT = 26_379
const PORT = 6379

/** @throws Error whose message follows the variable's name. It contains nothing of the value, which may have passwords */
export function readRedisUrl(url: string): RedisServers {
  if (/^rediss?:\/\/[^/?#]/.test(url) && URL.canParse(url)) {
    decoded(url)
    return { form: 'server', url }
  }
  if (/^rediss?:\/\/([/?#]|$)/.test(url)) throw new Error('has no host; write redis://host:6379/0')
  const [, scheme, form, user, hosts, path = '', query = ''] =
    /^(rediss?)\+(sentinel|cluster):\/\/(?:([^@/?]*)@)?([^@/?]+)(?:\/([^?]*))?(?:\?(.*))?$/.exec(url) ?? []
  if (!hosts) throw new Error(`is not a Redis URL; write ${EXAMPLES}`)
  const common = { login: loginOf(user), tls: scheme === 'rediss' }
  if (form === 'cluster') {
    if (!/^0?$/.test(path) || query)
      throw new Error('has a database or parameters after its hosts; a cluster only has database 0, so leave them out')
    return { form, nodes: hostsOf(hosts, PORT), ...common }
  }
  const [master = '', db = '0', ...more] = path.split('/')
  if (master === '') throw new Error('has no master name; write redis+sentinel://host:26379,host:26379/master/0')
  if (!/^\d+$/.test(db) || more.length > 0)
    throw new Error('has no valid database number after the master; write redis+sentinel://host:26379/master/0')
  const {
    sentinel_username: username,
    sentinel_password: password,
    ...unknown
  } = Object.fromEntries(new URLSearchParams(query.replaceAll('+', '%2B')))
  if (Object.keys(unknown).length > 0)
    throw new Error('has unsupported parameters; only sentinel_username and sentinel_password are supported')
  return {
    form: 'sentinel',
    sentinels: hostsOf(hosts, SENTINEL_PORT),
    master: decoded(master),
    db: Number(db),
    sentinelLogin: { ...(username && { username }), ...(password && { password }) },
    ...common,
  }
}

function hostsOf(list: string, defaultPort: number): HostPort[] {
  return list.split(',').map((text) => {
    const [, ipv6, name, port] = /^(?:\[([\da-fA-F:.]+)\]|([^\s:[\]]+))(?::(\d{1,5}))?$/.exec(text.trim()) ?? []
    const host = ipv6 ?? name
    if (!host || Number(port ?? 0) > 65_535) throw new Error(`has an invalid host or port; write ${EXAMPLES}`)
    return { host, port: port === undefined ? defaultPort : Number(port) }
  })
}

function loginOf(user: string | undefined): Login {
  if (!user) return {}
  const [username = '', ...rest] = user.split(':')
  if (rest.length === 0) throw new Error('has a user name without a password; write user:password@ or :password@')
  return { ...(username && { username: decoded(username) }), password: decoded(rest.join(':')) }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new Error('has a % that does not begin an encoded character; write %25 for a percent sign')
  }
}
