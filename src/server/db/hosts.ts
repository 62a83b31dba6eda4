/**
 * The servers that a connection string names, one connection string for each: `postgresql://user@a:5432,b:5432/db`
 * names two, as libpq reads it. The one that takes writes is the one to use.
 */
export function serversOf(url: string): string[] {
  const [, head = '', hosts = '', rest = ''] =
    /^(postgres(?:ql)?:\/\/(?:[^/?#]*@)?)([^@/?#]*)(.*)$/s.exec(url) ?? []
  if (!hosts.includes(',')) return [url]
  return hosts.split(',').map((host) => `${head}${host.trim()}${rest}`)
}
