import { expect, test } from 'vitest'
import { serversOf } from '../../../src/server/db/hosts.js'

test.each([
  ['postgresql://a/db', ['postgresql://a/db']],
  [
    'postgresql://u:p%2C@a:1,b:2/db?sslmode=require',
    ['postgresql://u:p%2C@a:1/db?sslmode=require', 'postgresql://u:p%2C@b:2/db?sslmode=require'],
  ],
  ['postgres://[::1]:1,b/db?x=1,2', ['postgres://[::1]:1/db?x=1,2', 'postgres://b/db?x=1,2']],
  ['postgresql://u:a,b@host/db', ['postgresql://u:a,b@host/db']],
  ['postgresql:///db', ['postgresql:///db']],
])('%s names %j', (url, servers) => expect(serversOf(url)).toEqual(servers))
