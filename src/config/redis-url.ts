/** The forms of `REDIS_URL` (docs/decisions/0022): one server, Sentinels that know it, or a cluster. */

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
  /** `login` is for the server that they name, `sentinelLogin` for the Sentinels themselves. */
  | { form: 'sentinel'; sentinels: HostPort[]; master: string; db: number; login: Login; sentinelLogin: Login; tls: boolean }
  | { form: 'cluster'; nodes: HostPort[]; login: Login; tls: boolean }

const EXAMPLES = 'redis://host:6379/0, redis+sentinel://host:26379,host:26379/master/0 or redis+cluster://host:6379,host:6379'
const SENTINEL_PORT = 26_379
const PORT = 6379

/** @throws Error whose message goes behind the variable's name; it has nothing of the value, where passwords stand */
export function readRedisUrl(url: string): RedisServers {
  if (/^rediss?:\/\/[^/?#]/.test(url) && URL.canParse(url)) {
    decoded(url)
    return { form: 'server', url }
  }
  const [, scheme, form, user, hosts, path = '', query = ''] =
    /^(rediss?)\+(sentinel|cluster):\/\/(?:([^@/?]*)@)?([^@/?]+)(?:\/([^?]*))?(?:\?(.*))?$/.exec(url) ?? []
  if (!hosts) throw new Error(`is not understood; write ${EXAMPLES}`)
  const common = { login: loginOf(user), tls: scheme === 'rediss' }
  if (form === 'cluster') {
    if (!/^0?$/.test(path) || query) throw new Error('has something behind its hosts; a cluster has no other database than 0')
    return { form, nodes: hostsOf(hosts, PORT), ...common }
  }
  const [master = '', db = '0', ...more] = path.split('/')
  if (master === '') throw new Error('does not name a master; write redis+sentinel://host:26379,host:26379/master/0')
  if (!/^\d+$/.test(db) || more.length > 0) throw new Error('has no number of a database behind its master')
  const {
    sentinel_username: username,
    sentinel_password: password,
    ...unknown
  } = Object.fromEntries(new URLSearchParams(query.replaceAll('+', '%2B')))
  if (Object.keys(unknown).length > 0) throw new Error('has parameters beside sentinel_username and sentinel_password')
  return {
    form: 'sentinel',
    sentinels: hostsOf(hosts, SENTINEL_PORT),
    master: decoded(master),
    db: Number(db),
    sentinelLogin: { ...(username && { username }), ...(password && { password }) },
    ...common,
  }
}

function hostsOf(list: string, usualPort: number): HostPort[] {
  return list.split(',').map((text) => {
    const [, six, four, port] = /^(?:\[([\da-fA-F:.]+)\]|([^\s:[\]]+))(?::(\d{1,5}))?$/.exec(text.trim()) ?? []
    const host = six ?? four
    if (!host || Number(port ?? 0) > 65_535) throw new Error(`has a host that is none; write ${EXAMPLES}`)
    return { host, port: port === undefined ? usualPort : Number(port) }
  })
}

function loginOf(user: string | undefined): Login {
  if (!user) return {}
  const [username = '', ...rest] = user.split(':')
  if (rest.length === 0) throw new Error('has a user without a password; write user:password@ or :password@')
  return { ...(username && { username: decoded(username) }), password: decoded(rest.join(':')) }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new Error('has a % that begins no character; write %25 for it')
  }
}
